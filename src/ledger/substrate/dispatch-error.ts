import { ChoraleError } from '../../errors.ts'
import type { LedgerEvent, LedgerValue } from '../ledger.ts'
import type { RuntimeCodec } from './runtime-codec.ts'
import { typeOf } from './runtime-types.ts'

/** A call that the runtime refused: `pallet` and `name` as the metadata has them. */
export class DispatchError extends ChoraleError {
  readonly pallet: string
  readonly error: string
  constructor(pallet: string, error: string, sentence: string | undefined) {
    super('ledger', `${pallet}.${error}: ${sentence ?? 'the chain refused the call'}`, { field: error })
    this.pallet = pallet
    this.error = error
  }
}

/** What a person should know about the errors met most often, and what to do. Others are named only. */
const SENTENCES: Readonly<Record<string, string>> = {
  'Network.NotEnoughBalanceToStake':
    'the account has less than it would stake; move tokens to it or stake less',
  'Network.NotEnoughBalance': 'the account has too little; move tokens to it',
  'Network.NotEnoughBalanceToRegisterSubnet':
    'the account has less than registering a subnet costs; move tokens to it',
  'Network.NotEnoughStakeToWithdraw': 'less is staked than was asked back; ask for less',
  'Network.MinStakeNotReached':
    "the node's stake would be below the subnet's minimum; stake more, or remove the node to get all of it back",
  'Network.MaxStakeReached': "the node's stake would be above the subnet's maximum; stake less",
  'Network.MinDelegateStakeDepositNotReached': 'the deposit is below the smallest one; delegate more',
  'Network.MaxUnlockingsReached': 'too many unbondings wait; claim them first (chorale stake claim)',
  'Network.NoStakeUnbondingsOrCooldownNotMet':
    'nothing can be claimed yet; chorale stake status shows from which block on',
  'Network.ElectedValidatorCannotUnstake':
    'the node is elected in this epoch and must keep its stake; try again in the next one',
  'Network.ElectedValidatorCannotRemove':
    'the node is elected in this epoch and must stay; try again in the next one',
  'Network.MinActiveNodeStakeEpochs': 'the node is too young to withdraw its stake; wait some epochs',
  'Network.CostGreaterThanMaxCost': 'registering a subnet costs more than allowed; raise --max-cost',
  'Network.MaxBurnAmountExceeded': 'registering a node burns more than allowed; raise --max-burn',
  'Network.InvalidSubnetId': 'there is no such subnet; chorale subnet list shows them',
  'Network.InvalidSubnetNodeId': 'the subnet has no such node; chorale subnet show lists them',
  'Network.InvalidHotkeySubnetNodeId': 'the hotkey belongs to no node of this subnet',
  'Network.NotKeyOwner': 'the account is not the coldkey of this hotkey; sign with the coldkey',
  'Network.NotSubnetOwner': 'the account does not own the subnet; sign with its owner',
  'Network.ColdkeyMatchesHotkey': 'coldkey and hotkey must differ; make a hotkey with chorale key new hotkey',
  'Network.HotkeyHasOwner': 'the hotkey belongs to another coldkey; make a new one',
  'Network.HotkeyAlreadyRegisteredToColdkey': 'the hotkey runs a node already; make a new one',
  'Network.PeerIdExist': 'the peer id is registered in this subnet already',
  'Network.BootnodePeerIdExist': 'the bootnode peer id is registered in this subnet already',
  'Network.ClientPeerIdExist': 'the client peer id is registered in this subnet already',
  'Network.PeerIdsMustBeUnique': 'peer id, bootnode peer id and client peer id must differ',
  'Network.InvalidPeerId': 'the peer id is none (base58 text like 12D3Koo…)',
  'Network.InvalidMultiaddr': 'the address must be a multiaddr that ends in /p2p/PEER',
  'Network.SubnetNameExist': 'another subnet has this name; choose another',
  'Network.SubnetRepoExist': 'another subnet has this repo; choose another',
  'Network.InvalidSubnetRegistrationInitialColdkeys':
    'a subnet needs at least three different initial coldkeys; give --coldkeys',
  'Network.ColdkeyRegistrationWhitelist':
    "before activation only the subnet's initial coldkeys may register nodes",
  'Network.MaxRegisteredNodes': 'this coldkey (or the queue) has no room for another node',
  'Network.MinSubnetRegistrationEpochsNotMet': 'the subnet is too young to be activated; wait some epochs',
  'Network.SubnetActivationConditionsNotMetYet':
    'a subnet needs three nodes and enough delegate stake to be activated; chorale subnet show tells what is missing',
  'Network.SubnetActivatedAlready': 'the subnet is active already',
  'Network.SubnetMustBeRegistering': 'the subnet is active already',
  'Network.SubnetMustBeActive': 'the subnet is not active',
  'Network.SubnetIsPaused': 'the subnet is paused by its owner',
  'Network.NoAvailableSlots': 'all slots for subnets are taken',
  'Network.InvalidValidator': 'another node is elected for this epoch',
  'Network.NoElectedValidator': 'nobody is elected for this epoch',
  'Network.SubnetRewardsAlreadySubmitted': 'scores were proposed for this epoch already',
  'Network.InvalidSubnetConsensusSubmission': 'nothing was proposed in this epoch yet',
  'Network.AlreadyAttested': 'the node attested this epoch already',
  'Network.InvalidSubnetNodeClassification': "the node's class does not allow this yet",
  'Network.TxRateLimitExceeded': 'this account sent too many calls; wait some blocks',
  'Network.Paused': "the chain's council paused the Network pallet",
  'Balances.InsufficientBalance': 'the account has too little; move tokens to it',
  'System.CallFiltered': 'the chain does not allow this call now',
  'Arithmetic.Underflow': 'the account has too little; move tokens to it',
  'Token.FundsUnavailable': 'the account has too little; move tokens to it',
  'Token.BelowMinimum': 'the receiving account would stay below the existential deposit; send more',
  'Token.NotExpendable': 'the account would fall below the existential deposit; send less',
  Other: 'the chain refused the call without naming a reason',
  BadOrigin: 'the account may not make this call',
}

/** Names the error of a `DispatchError` value. */
export function dispatchError(codec: RuntimeCodec, value: LedgerValue): DispatchError {
  if (typeof value === 'string') return new DispatchError('Dispatch', value, SENTENCES[value])
  const { type, value: inner } = fields(value)
  if (type === 'Module') {
    const { index, error } = fields(inner)
    const code = error instanceof Uint8Array ? (error[0] ?? 0) : Number(error)
    for (const [pallet, { index: own, errors }] of codec.pallets) {
      if (own !== index || errors === undefined) continue
      const found = typeOf(codec.types, errors)
      const name =
        found.kind === 'enum' ? found.variants.find((variant) => variant.index === code)?.name : undefined
      return new DispatchError(pallet, name ?? `error ${code}`, SENTENCES[`${pallet}.${name ?? ''}`])
    }
    return new DispatchError(`pallet ${Number(index)}`, `error ${code}`, undefined)
  }
  const kind = typeof type === 'string' ? type : 'Dispatch'
  const name = typeof inner === 'string' ? inner : 'unknown'
  return new DispatchError(kind, name, SENTENCES[`${kind}.${name}`])
}

/** The error that the events of a transaction tell of: its own, or that of the call inside `Sudo`, `Utility`, `Proxy`. */
export function failureOf(codec: RuntimeCodec, events: readonly LedgerEvent[]): DispatchError | undefined {
  for (const { pallet, name, data } of events) {
    if (pallet === 'System' && name === 'ExtrinsicFailed') {
      return dispatchError(codec, data['dispatch_error'] ?? data['0'])
    }
    const result = data['sudo_result'] ?? data['result'] ?? (name === 'Sudid' ? data['0'] : undefined)
    const { type, value } = isResult(result) ? result : { type: 'Ok', value: undefined }
    if (type === 'Err') return dispatchError(codec, value)
    if (pallet === 'Utility' && name === 'BatchInterrupted') return dispatchError(codec, data['error'])
  }
  return undefined
}

function isResult(value: LedgerValue): value is { readonly type: string; readonly value: LedgerValue } {
  return typeof value === 'object' && 'type' in value && (value['type'] === 'Err' || value['type'] === 'Ok')
}

function fields(value: LedgerValue): Readonly<Record<string, LedgerValue>> {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array)
    ? (value as Readonly<Record<string, LedgerValue>>)
    : {}
}
