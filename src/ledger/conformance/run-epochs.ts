import { ChoraleError } from '../../errors.ts'
import { attest, proposeAttestation } from '../calls.ts'
import { near, percentDiv, attestorFactor, proposerFactor, subnetEpochOf } from '../formulas.ts'
import type { ScriptNode, ScriptSubnet } from './found-subnet.ts'
import { judgeRewards, judgeSlash } from './judge-epochs.ts'
import { bigOf, type Checks, eventOf, feeOf, fieldOf, listOf, type Script } from './script.ts'

/** Epochs in which the first election must have come. */
const ELECTION_EPOCHS = 5

/** Proposes, attests and is paid; proposes badly and is slashed; recovers. @returns whether all steps ran. */
export async function runEpochs(script: Script, subnet: ScriptSubnet): Promise<boolean> {
  const begun = { epoch: 0, elected: subnet.nodes[0] as ScriptNode }
  const electNext = async (checks: Checks): Promise<void> => {
    const { epoch, elected } = await nextElection(script, subnet)
    begun.epoch = epoch
    begun.elected = elected
    checks.said.push(`node ${elected.id} is elected for epoch ${epoch}`)
  }
  const propose = async (checks: Checks, scores: readonly bigint[]): Promise<void> => {
    await electNext(checks)
    await proposeScores(script, checks, subnet, begun.elected, begun.epoch, scores)
  }
  const others = (): readonly ScriptNode[] => subnet.nodes.filter(({ id }) => id !== begun.elected.id)
  return (
    (await script.step('propose', async (checks) => {
      await propose(checks, [40n, 30n, 20n, 10n])
      const [other] = others()
      if (other === undefined) return
      await script.refused(
        'a second proposal',
        proposeAttestation(subnet.id, []),
        begun.elected.hotkey,
        ['SubnetRewardsAlreadySubmitted'],
        checks,
      )
      await script.refused(
        'a proposal of another node',
        proposeAttestation(subnet.id, []),
        other.hotkey,
        ['InvalidValidator'],
        checks,
      )
    })) &&
    (await script.step('attest', (checks) => attestAll(script, checks, subnet, others(), begun.epoch))) &&
    (await script.step('rewards', (checks) => judgeRewards(script, checks, subnet, begun.epoch))) &&
    (await script.step('bad proposal', (checks) => propose(checks, [1n, 0n, 0n, 0n]))) &&
    (await script.step('slash', (checks) => judgeSlash(script, checks, subnet, begun))) &&
    (await script.step('recover', async (checks) => {
      await propose(checks, [1n, 1n, 1n, 1n])
      await attestAll(script, checks, subnet, others(), begun.epoch)
      await judgeRewards(script, checks, subnet, begun.epoch)
    }))
  )
}

/** Waits for the next subnet epoch and who is elected in it. */
async function nextElection(
  script: Script,
  { id, slot, nodes }: ScriptSubnet,
): Promise<{ readonly epoch: number; readonly elected: ScriptNode }> {
  const { ledger } = script
  for (let tries = 0; tries < ELECTION_EPOCHS; tries++) {
    const begins = script.nextSlot(await script.head(), slot)
    const { hash } = await script.until(begins)
    const { epoch } = subnetEpochOf(begins, slot, ledger.info.epochBlocks)
    const electedId = await ledger.electedNode(id, epoch, hash)
    const elected = nodes.find((node) => node.id === electedId)
    if (elected !== undefined) return { epoch, elected }
    if (electedId !== undefined)
      throw new ChoraleError('ledger', `node ${electedId}, which is unknown, is elected`)
  }
  throw new ChoraleError('ledger', `nobody was elected in ${ELECTION_EPOCHS} epochs`)
}

async function proposeScores(
  script: Script,
  checks: Checks,
  subnet: ScriptSubnet,
  elected: ScriptNode,
  epoch: number,
  scores: readonly bigint[],
): Promise<void> {
  const { ledger } = script
  const data = subnet.nodes.map(({ id }, i) => ({ nodeId: id, score: scores[i] ?? 0n }))
  const before = await ledger.balance(elected.hotkey.address)
  // An entry of a node that does not exist must be left out.
  const call = proposeAttestation(subnet.id, [...data, { nodeId: 999_999, score: 5n }])
  const done = await script.send(call, elected.hotkey, checks)
  const event = eventOf(done.events, 'ValidatorSubmission')
  checks.equal(
    'event',
    [event['subnet_id'], event['account_id'], event['epoch']],
    [subnet.id, elected.hotkey.address, epoch],
  )
  checks.equal('fee', before - (await ledger.balance(elected.hotkey.address, done.blockHash)), 0n)
  const consensus = await ledger.consensus(subnet.id, epoch)
  checks.equal('proposer', consensus?.proposer, elected.id)
  checks.equal('scores', consensus?.scores, data)
  checks.equal(
    'who may attest',
    consensus?.validators.toSorted(byNumber),
    subnet.nodes.map(({ id }) => id),
  )
  checks.equal('who has', consensus?.attestors, [elected.id])
  const { progress } = subnetEpochOf(done.blockNumber, subnet.slot, ledger.info.epochBlocks)
  const stored = await ledger.storage('Network', 'SubnetConsensusSubmission', [subnet.id, epoch])
  checks.equal('progress', fieldOf(stored, 'validator_epoch_progress'), progress)
  const factor = bigOf(fieldOf(stored, 'validator_reward_factor'))
  checks.that(`timing factor ${factor} as by the rules`, near(factor, proposerFactor(progress)))
}

async function attestAll(
  script: Script,
  checks: Checks,
  subnet: ScriptSubnet,
  others: readonly ScriptNode[],
  epoch: number,
): Promise<void> {
  const { ledger } = script
  const { epochBlocks } = ledger.info
  for (const node of others) {
    const done = await script.send(attest(subnet.id), node.hotkey, checks)
    const event = eventOf(done.events, 'Attestation')
    checks.equal(
      'event',
      [event['subnet_id'], event['subnet_node_id'], event['epoch']],
      [subnet.id, node.id, epoch],
    )
    checks.equal('fee', feeOf(done.events), 0n)
    const stored = await ledger.storage(
      'Network',
      'SubnetConsensusSubmission',
      [subnet.id, epoch],
      done.blockHash,
    )
    const entry = listOf(fieldOf(stored, 'attests'))
      .map(listOf)
      .find(([id]) => id === node.id)?.[1]
    const proposed = Number(fieldOf(stored, 'block'))
    const left = epochBlocks - ((proposed - subnet.slot) % epochBlocks)
    const progress = percentDiv(BigInt(done.blockNumber - proposed), BigInt(left))
    checks.equal('progress', fieldOf(entry, 'attestor_progress'), progress)
    const factor = bigOf(fieldOf(entry, 'reward_factor'))
    checks.that(`timing factor ${factor} as by the rules`, near(factor, attestorFactor(progress)))
  }
  const [first] = others
  if (first !== undefined)
    await script.refused('a second attestation', attest(subnet.id), first.hotkey, ['AlreadyAttested'], checks)
  const consensus = await ledger.consensus(subnet.id, epoch)
  checks.equal(
    'who attested',
    consensus?.attestors.toSorted(byNumber),
    subnet.nodes.map(({ id }) => id),
  )
}

function byNumber(a: number, b: number): number {
  return a - b
}
