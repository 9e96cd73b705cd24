import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { ChoraleError, errorMessage } from '../errors.ts'

/** Reads a multiaddr. @throws `bad_config` naming `field`. */
export function parseAddr(text: string, field: string): Multiaddr {
  try {
    return multiaddr(text)
  } catch (error) {
    throw new ChoraleError(
      'bad_config',
      `${JSON.stringify(text.slice(0, 200))} is no multiaddr, e.g. /ip4/127.0.0.1/tcp/4001: ${errorMessage(error)}`,
      { field },
    )
  }
}

/** The address with the peer's id at its end, where it names none. */
export function withPeerId(address: Multiaddr, peerId: string): Multiaddr {
  const named = address.getComponents().some((component) => component.name === 'p2p')
  return named ? address : address.encapsulate(`/p2p/${peerId}`)
}
