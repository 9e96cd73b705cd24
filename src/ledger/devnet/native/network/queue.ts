import { nextBurnRate } from './burn-rate.ts'
import { makeLive } from './node-classes.ts'
import { percentMul } from './fixed-point.ts'
import type { SubnetNode } from './records.ts'
import type { NetworkState } from './state.ts'

/**
 * At the subnet's slot: lets the head of the queue in, as many as the churn limit and the free places allow. A node leaves
 * once its start epoch plus the queue epochs is past; the first that is not ready holds those behind it.
 */
export function admitQueued(net: NetworkState, subnetId: number, subnetEpoch: number): void {
  if (subnetEpoch % Math.max(1, net.num('ChurnLimitMultiplier', subnetId)) !== 0) return
  const free = Math.max(0, net.num('MaxSubnetNodes') - net.num('TotalActiveSubnetNodes', subnetId))
  const most = Math.min(free, net.num('ChurnLimit', subnetId))
  const waits = net.num('SubnetNodeQueueEpochs', subnetId)
  const queue = net.get<readonly SubnetNode[]>('SubnetNodeQueue', subnetId)
  const notReady = queue.findIndex((node) => node.classification.start_epoch + waits >= subnetEpoch)
  const ready = queue.slice(0, Math.min(most, notReady < 0 ? queue.length : notReady))
  if (ready.length === 0) return
  for (const node of ready) makeLive(net, subnetId, node, 'Idle', subnetEpoch)
  net.put('SubnetNodeQueue', [subnetId], queue.slice(ready.length))
}

/** What a registration burns now. */
export function burnAmount(net: NetworkState, subnetId: number): bigint {
  return percentMul(net.big('BaseNodeBurnAmount'), net.big('CurrentNodeBurnRate', subnetId))
}

/** At the subnet's slot: moves the burn rate towards what the epoch's registrations call for. */
export function updateBurnRate(net: NetworkState, subnetId: number): void {
  const rate = nextBurnRate({
    registrations: net.num('NodeRegistrationsThisEpoch', subnetId),
    target: net.num('TargetNodeRegistrationsPerEpoch', subnetId),
    previous: net.big('CurrentNodeBurnRate', subnetId),
    alpha: net.big('NodeBurnRateAlpha', subnetId),
    min: net.big('MinNodeBurnRate'),
    max: net.big('MaxNodeBurnRate'),
  })
  net.put('CurrentNodeBurnRate', [subnetId], rate)
  net.put('NodeRegistrationsThisEpoch', [subnetId], 0)
}
