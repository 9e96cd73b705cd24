import { ensureLength, MAX_SOCIAL_ID, MAX_URL, MAX_VECTOR } from './bounds.ts'
import type { Args, Handlers, NetworkState } from './state.ts'

/** Fields of an identity and their longest length. */
const FIELDS = {
  name: MAX_VECTOR,
  url: MAX_URL,
  image: MAX_URL,
  discord: MAX_SOCIAL_ID,
  x: MAX_SOCIAL_ID,
  telegram: MAX_SOCIAL_ID,
  github: MAX_URL,
  hugging_face: MAX_URL,
  description: MAX_VECTOR,
  misc: MAX_VECTOR,
}

type Identity = Readonly<Record<keyof typeof FIELDS, Uint8Array>>

function registerIdentity(net: NetworkState, coldkey: string, hotkey: string, args: Args): void {
  net.ensure(net.get('HotkeyOwner', hotkey) === coldkey, 'NotKeyOwner')
  const identity = {} as Record<keyof typeof FIELDS, Uint8Array>
  for (const [field, limit] of Object.entries(FIELDS)) {
    const value = args[field] as Uint8Array
    net.ensure(value.length > 0, 'IdentityFieldEmpty')
    ensureLength(field, value, limit)
    identity[field as keyof typeof FIELDS] = value
  }
  const owner = net.find<string>('ColdkeyIdentityNameOwner', identity.name)
  net.ensure(owner === undefined || owner === coldkey, 'IdentityTaken')
  const before = net.find<Identity>('ColdkeyIdentity', coldkey)
  if (before !== undefined) net.drop('ColdkeyIdentityNameOwner', before.name)
  net.put('ColdkeyIdentityNameOwner', [identity.name], coldkey)
  net.put('ColdkeyIdentity', [coldkey], identity)
  net.emit('IdentityRegistered', { coldkey, identity })
}

export const identityCalls: Handlers = {
  register_or_update_identity(net: NetworkState, args, who) {
    registerIdentity(net, who, args['hotkey'] as string, args)
  },
  remove_identity(net: NetworkState, _args, who) {
    const identity = net.get<Identity>('ColdkeyIdentity', who)
    net.drop('ColdkeyIdentity', who)
    net.drop('ColdkeyIdentityNameOwner', identity.name)
    net.emit('IdentityRemoved', { coldkey: who, identity })
  },
}
