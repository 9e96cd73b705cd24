import { ChoraleError } from '../../errors.ts'
import { registerNode, registerSubnet, transfer } from '../calls.ts'
import { near, ONE, percentMul, registrationCost } from '../formulas.ts'
import type { LedgerSigner } from '../ledger.ts'
import { base58Text, multiaddrBytes } from '../multiaddr-bytes.ts'
import { activate, delegate } from './activate-subnet.ts'
import { type Checks, eventOf, feeOf, type Script } from './script.ts'

/** A node of the script's subnet: its keys and its place. */
export interface ScriptNode {
  readonly id: number
  readonly coldkey: LedgerSigner
  readonly hotkey: LedgerSigner
  readonly peerId: string
}

/** The script's subnet. */
export interface ScriptSubnet {
  readonly id: number
  readonly slot: number
  readonly nodes: readonly ScriptNode[]
}

const NODES = 4
/** What a hotkey gets for its fees, and a coldkey besides its stake, in tokens. */
const HOTKEY_TOKENS = 5n
const SPARE_TOKENS = 20n

/** Registers a subnet with four nodes and activates it. Ends early, with a failed step, where a call is refused. */
export async function foundSubnet(script: Script): Promise<ScriptSubnet | undefined> {
  const { ledger, options } = script
  const unit = 10n ** BigInt(ledger.info.tokenDecimals)
  const coldkeys = Array.from({ length: NODES }, options.newAccount)
  const hotkeys = Array.from({ length: NODES }, options.newAccount)
  const peers = Array.from({ length: NODES + 1 }, () => newPeerId(options.random))
  let minStake = 100n * unit
  let subnet = { id: 0, slot: 0 }
  const nodes: ScriptNode[] = []

  const ran =
    (await script.step('read the pallet', async (checks) => {
      checks.that('the chain has a Network pallet', ledger.info.epochBlocks > 0)
      if (ledger.info.epochBlocks === 0)
        throw new ChoraleError('not_supported', 'there is nothing to run the script on')
      minStake = await script.integer('MinSubnetMinStake', [])
      checks.equal('least of nodes', await ledger.storage('Network', 'MinSubnetNodes', []), 3)
      checks.equal(
        'least attestation',
        await script.integer('MinAttestationPercentage', []),
        (66n * ONE) / 100n,
      )
      checks.equal('epoch length', ledger.info.epochBlocks > 3, true)
    })) &&
    (await script.step('fund accounts in parallel', (checks) =>
      fund(script, checks, [
        ...coldkeys.map(({ address }) => [address, minStake + SPARE_TOKENS * unit] as const),
        ...hotkeys.map(({ address }) => [address, HOTKEY_TOKENS * unit] as const),
      ]),
    )) &&
    (await script.step('register a subnet', async (checks) => {
      subnet = await register(script, checks, coldkeys, peers[NODES] ?? '', minStake)
    })) &&
    (await script.step('register four nodes', async (checks) => {
      for (const [i, coldkey] of coldkeys.entries()) {
        const hotkey = hotkeys[i] ?? coldkey
        const peerId = peers[i] ?? ''
        const id = await register1(script, checks, subnet.id, coldkey, hotkey, peerId, minStake)
        nodes.push({ id, coldkey, hotkey, peerId })
      }
      await refusals(script, checks, subnet.id, nodes, minStake)
      await proofs(script, checks, subnet.id, nodes, minStake)
    })) &&
    (await script.step('delegate', (checks) => delegate(script, checks, subnet.id, NODES))) &&
    (await script.step('activate', (checks) => activate(script, checks, subnet.id)))
  return ran ? { ...subnet, nodes } : undefined
}

async function fund(
  script: Script,
  checks: Checks,
  transfers: readonly (readonly [string, bigint])[],
): Promise<void> {
  const { ledger, options } = script
  const before = await ledger.balance(options.funder.address)
  const sent = await Promise.all(
    transfers.map(([to, amount]) => script.send(transfer(to, amount), options.funder)),
  )
  const fees = sent.reduce((sum, { events }) => sum + feeOf(events), 0n)
  const all = transfers.reduce((sum, [, amount]) => sum + amount, 0n)
  checks.equal('sent besides fees', before - (await ledger.balance(options.funder.address)), all + fees)
  const got = await Promise.all(transfers.map(([to]) => ledger.balance(to)))
  checks.equal(
    'all arrived',
    got.every((amount, i) => amount === transfers[i]?.[1]),
    true,
  )
}

async function register(
  script: Script,
  checks: Checks,
  coldkeys: readonly LedgerSigner[],
  bootnode: string,
  minStake: bigint,
): Promise<{ id: number; slot: number }> {
  const { ledger, options } = script
  const { funder } = options
  const name = `conformance-${base58Text(options.random(8))}`
  const last = await script.integer('LastRegistrationCost', [])
  const registration = {
    name,
    repo: `https://example.org/${name}`,
    description: 'life-cycle script',
    misc: '',
    minStake,
    maxStake: await script.integer('MaxSubnetMinStake', []),
    delegateStakePercentage: ONE / 10n,
    initialColdkeys: coldkeys.map(({ address }) => [address, 1] as const),
    bootnodes: [[bootnode, multiaddrBytes(`/ip4/127.0.0.1/tcp/4001/p2p/${bootnode}`)]] as const,
  }
  await script.refused(
    'a cost above the limit',
    registerSubnet(1n, registration),
    funder,
    ['CostGreaterThanMaxCost'],
    checks,
  )
  await script.refused(
    'two coldkeys alone',
    registerSubnet(2n * last, { ...registration, initialColdkeys: registration.initialColdkeys.slice(0, 2) }),
    funder,
    ['InvalidSubnetRegistrationInitialColdkeys'],
    checks,
  )
  const balance = await ledger.balance(funder.address)
  const done = await script.send(registerSubnet(2n * last, registration), funder, checks)
  const block = await script.until(done.blockNumber)
  const [least, decay, since, multiplier] = await Promise.all([
    script.integer('MinRegistrationCost', [], block.parentHash),
    script.integer('RegistrationCostDecayBlocks', [], block.parentHash),
    script.integer('LastSubnetRegistrationBlock', [], block.parentHash),
    script.integer('NewRegistrationCostMultiplier', [], block.parentHash),
  ])
  const cost = registrationCost(last, least, done.blockNumber - Number(since), Number(decay))
  const paid = balance - (await ledger.balance(funder.address, done.blockHash)) - feeOf(done.events)
  checks.that(`cost ${paid} as by the rules ${cost}`, near(paid, cost))
  checks.equal(
    'next cost',
    await script.integer('LastRegistrationCost', [], done.blockHash),
    percentMul(paid, multiplier),
  )
  const event = eventOf(done.events, 'SubnetRegistered')
  const id = Number(event['subnet_id'])
  checks.equal('owner', event['owner'], funder.address)
  const subnet = await ledger.subnet(id)
  checks.equal('state', subnet?.state, 'Registered')
  checks.equal('name', subnet?.name, name)
  const slot = subnet?.slot ?? 0
  checks.that(
    `slot ${slot} lies in an epoch, behind the chain's own`,
    slot >= 3 && slot < ledger.info.epochBlocks,
  )
  return { id, slot }
}

async function register1(
  script: Script,
  checks: Checks,
  subnetId: number,
  coldkey: LedgerSigner,
  hotkey: LedgerSigner,
  peerId: string,
  stake: bigint,
): Promise<number> {
  const { ledger } = script
  const before = await ledger.balance(coldkey.address)
  const call = registerNode({
    subnetId,
    hotkey: hotkey.address,
    peer: { peerId, multiaddr: multiaddrBytes(`/ip4/127.0.0.1/tcp/4001/p2p/${peerId}`) },
    stake,
    maxBurn: 10n ** 18n,
  })
  const done = await script.send(call, coldkey, checks)
  const { parentHash } = await script.until(done.blockNumber)
  const burn = percentMul(
    await script.integer('BaseNodeBurnAmount', [], parentHash),
    await script.integer('CurrentNodeBurnRate', [subnetId], parentHash),
  )
  const paid = before - (await ledger.balance(coldkey.address, done.blockHash)) - feeOf(done.events)
  // Before activation a node of the first ones is live at once.
  const { subnet_node_id: id } = eventOf(done.events, 'SubnetNodeActivated')
  checks.equal(`node ${Number(id)} paid stake and burn`, paid, stake + burn)
  const node = (await ledger.nodes(subnetId)).find((one) => one.id === id)
  checks.equal('class', node?.class, 'Validator')
  checks.equal('stake', node?.stake, stake)
  checks.equal('keys', [node?.coldkey, node?.hotkey, node?.peerId], [coldkey.address, hotkey.address, peerId])
  return Number(id)
}

async function refusals(
  script: Script,
  checks: Checks,
  subnetId: number,
  nodes: readonly ScriptNode[],
  stake: bigint,
): Promise<void> {
  const { funder, newAccount } = script.options
  const [first] = nodes
  if (first === undefined) return
  const node = (peerId: string, hotkey: string) =>
    registerNode({ subnetId, hotkey, peer: { peerId }, stake, maxBurn: 10n ** 18n })
  const fresh = newPeerId(script.options.random)
  await script.refused(
    'a stranger before activation',
    node(fresh, newAccount().address),
    funder,
    ['ColdkeyRegistrationWhitelist'],
    checks,
  )
  await script.refused(
    'coldkey as hotkey',
    node(fresh, first.coldkey.address),
    first.coldkey,
    ['ColdkeyMatchesHotkey'],
    checks,
  )
  await script.refused(
    "another's hotkey",
    node(fresh, first.hotkey.address),
    nodes[1]?.coldkey ?? funder,
    ['HotkeyHasOwner'],
    checks,
  )
}

async function proofs(
  script: Script,
  checks: Checks,
  subnetId: number,
  nodes: readonly ScriptNode[],
  stake: bigint,
): Promise<void> {
  const { ledger } = script
  const [first] = nodes
  if (first === undefined) return
  const proof = (peer: string, least?: bigint): Promise<boolean> =>
    ledger.proofOfStake(subnetId, peer, 'Registered', least)
  checks.equal('proof of stake of a node', await proof(first.peerId), true)
  checks.equal('of a node that should have more', await proof(first.peerId, stake + 1n), false)
  checks.equal('of a stranger', await proof(newPeerId(script.options.random)), false)
}

/** Text of an ed25519 peer id: identity multihash of a protobuf public key; nobody has the secret. */
function newPeerId(random: (length: number) => Uint8Array): string {
  return base58Text(Uint8Array.from([0x00, 0x24, 0x08, 0x01, 0x12, 0x20, ...random(32)]))
}
