import { type GossipSub, gossipsub, type Message, TopicValidatorResult } from '@libp2p/gossipsub'
import { sha256 } from '@noble/hashes/sha2.js'
import { ChoraleError, errorCode, errorMessage } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { createMutes, type Mutes } from './gossip-mutes.ts'
import { createRateLimit } from './rate-limit.ts'
import type { StakeGate } from './stake-gate.ts'

/** Small news for everybody at once: gossipsub, with stake as the first thing that is asked of a peer. */

/**
 * `accept`: right and new, passed on. `ignore`: not passed on, nobody's fault. `reject`: wrong for everybody, and held
 * against whoever signed it and whoever brought it: after the third they are not heard for ten minutes.
 */
export type GossipVerdict = 'accept' | 'ignore' | 'reject'

export interface GossipMessage {
  /** Who signed the message. */
  readonly publisher: string
  /** Who it came from: the publisher, or a peer that passed it on. */
  readonly forwarder: string
  readonly data: Uint8Array
}

export interface TopicOptions {
  /** Longer messages are rejected unread. At most `MAX_GOSSIP_BYTES`. */
  readonly maxBytes: number
  /**
   * Takes a message of another peer. Called once for equal messages, after stake, length and rate were looked at. What it
   * throws rejects the message when it is a `protocol` error, and ignores it otherwise.
   */
  readonly take: (message: GossipMessage) => GossipVerdict | Promise<GossipVerdict>
}

export interface GossipTopic {
  /**
   * Sends to everybody in the topic. @returns how many peers it went to first.
   * @throws `limit` when it is too long.
   */
  publish(data: Uint8Array): Promise<number>
  /** Peers known to listen. */
  readonly listeners: number
  close(): void
}

/** A peer's part in gossip. */
export interface Gossip {
  /** Listens to a topic, one of those this peer was started with. @throws `bad_request` for others, and the second time. */
  join(topic: string, options: TopicOptions): GossipTopic
  /** How a peer behaved, stake included: below -80 nothing is taken from it. */
  score(peerId: string): number
  /** Messages of others since the start, by verdict. */
  readonly verdicts: Readonly<Record<GossipVerdict, number>>
}

/** Longer news is announced by its hash and fetched (`content-exchange.ts`): each message travels six times. */
export const MAX_GOSSIP_BYTES = 16_384
/** One RPC holds many messages when a peer asks for what it missed. */
const MAX_RPC_BYTES = 2 ** 20
/** A publisher has news a few times a minute; when a server starts, moves or leaves, several at once. */
const PUBLISHER_PER_SECOND = 1
const PUBLISHER_BURST = 30
/** A forwarder brings what all publishers say. */
const FORWARDER_PER_SECOND = 200
const FORWARDER_BURST = 2_000
const HEARTBEAT_MS = 300
/** Below every threshold: nothing is sent to a peer without stake, or taken from it. */
const UNSTAKED_SCORE = -1_000
/** Nothing is sent to a peer that is muted; what it subscribes to is noted, for when it is heard again. */
const MUTED_SCORE = -60

/** `score` is public in the library and missing in its types. */
type ScoredGossipSub = GossipSub & { getScore(peerId: string): number; isStarted(): boolean }

/** Gossip as `PeerOptions.gossip` takes it. A factory of its own, so that pages that take no part need not load it. */
export interface GossipFactory {
  /** The library's service for these topics. */
  service(topics: readonly string[], gate: StakeGate | undefined): ReturnType<typeof gossipsub>
  /** The topics of the running service. */
  wrap(
    service: GossipSub,
    topics: readonly string[],
    options: { readonly gate: StakeGate | undefined; readonly log: Logger; readonly metrics: Metrics },
  ): Gossip
}

/** For peers that others can dial: servers and bootstrap peers. One a peer. `now` is a clock that never runs back, in ms. */
export function gossip(now: () => number = () => performance.now()): GossipFactory {
  const mutes = createMutes(now)
  return {
    service: (topics, gate) => gossipService(topics, gate, mutes),
    wrap: (service, topics, options) => createGossip(service, topics, { ...options, mutes }),
  }
}

function gossipService(
  topics: readonly string[],
  gate: StakeGate | undefined,
  mutes: Mutes,
): ReturnType<typeof gossipsub> {
  return gossipsub({
    allowedTopics: new Set(topics),
    globalSignaturePolicy: 'StrictSign',
    // By publisher and content: whoever publishes another's words does not silence it.
    msgIdFn: (message) => {
      const from = message.type === 'signed' ? message.from.toString() : ''
      const head = new TextEncoder().encode(`${message.topic} ${from} `)
      const bytes = new Uint8Array(head.length + message.data.length)
      bytes.set(head)
      bytes.set(message.data, head.length)
      return sha256(bytes)
    },
    floodPublish: true,
    // A peer that has just come is passed news from the next heartbeat on.
    heartbeatInterval: HEARTBEAT_MS,
    allowPublishToZeroTopicPeers: true,
    ignoreDuplicatePublishError: true,
    canRelayMessage: false,
    // What a peer is sent in one go must be validated in order, or a burst would outrun the rate limit.
    awaitRpcMessageHandler: true,
    maxInboundDataLength: MAX_RPC_BYTES,
    maxOutboundBufferSize: 8 * MAX_RPC_BYTES,
    maxTopicBytesPerPeer: 16 * 1024,
    // IDs, not messages, in numbers that a swarm of news a few times a minute never reaches.
    decodeRpcLimits: {
      maxSubscriptions: 64,
      maxMessages: 128,
      maxIhaveMessageIDs: 1_000,
      maxIwantMessageIDs: 1_000,
      maxIdontwantMessageIDs: 512,
      maxControlMessages: 128,
      maxPeerInfos: 16,
    },
    scoreParams: {
      appSpecificScore: (peerId) => {
        if (gate?.staked(peerId, 'gossip').ok !== false) return mutes.has(peerId) ? MUTED_SCORE : 0
        // Bootnodes are no nodes of the set: when the ledger knows this one, it is heard a second later.
        void gate.resolve(peerId, 'gossip')
        return UNSTAKED_SCORE
      },
      appSpecificWeight: 1,
      // Stake is what makes many peers expensive; a rack or a test has one address.
      IPColocationFactorWeight: 0,
      topics: Object.fromEntries(topics.map((topic) => [topic, TOPIC_SCORE])),
    },
    scoreThresholds: {
      gossipThreshold: -10,
      publishThreshold: -50,
      graylistThreshold: -80,
      acceptPXThreshold: 10,
      opportunisticGraftThreshold: 1,
    },
  })
}

/** News is rare, so silence costs nothing; wrong messages cost the square of their number. */
const TOPIC_SCORE = {
  topicWeight: 1,
  timeInMeshWeight: 0.01,
  timeInMeshQuantum: 1_000,
  timeInMeshCap: 100,
  firstMessageDeliveriesWeight: 0.1,
  firstMessageDeliveriesDecay: 0.99,
  firstMessageDeliveriesCap: 50,
  meshMessageDeliveriesWeight: 0,
  meshMessageDeliveriesDecay: 0.5,
  meshMessageDeliveriesCap: 1,
  meshMessageDeliveriesThreshold: 1,
  meshMessageDeliveriesWindow: 10,
  meshMessageDeliveriesActivation: 1_000,
  meshFailurePenaltyWeight: 0,
  meshFailurePenaltyDecay: 0.5,
  invalidMessageDeliveriesWeight: -20,
  invalidMessageDeliveriesDecay: 0.99,
}

const RESULTS: Readonly<Record<GossipVerdict, TopicValidatorResult>> = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
}

function createGossip(
  service: GossipSub,
  topics: readonly string[],
  {
    gate,
    log,
    metrics,
    mutes,
  }: {
    readonly gate: StakeGate | undefined
    readonly log: Logger
    readonly metrics: Metrics
    readonly mutes: Mutes
  },
): Gossip {
  const verdicts = { accept: 0, ignore: 0, reject: 0 }
  const counted = metrics.counter(
    'chorale_gossip_messages_total',
    'Gossip of others, by what became of it and why.',
    ['verdict', 'reason'],
  )
  const found = (verdict: GossipVerdict, reason: string): GossipVerdict => {
    counted.inc({ verdict, reason })
    return verdict
  }
  const scores = service as ScoredGossipSub
  const publishers = createRateLimit(() => performance.now())
  const forwarders = createRateLimit(() => performance.now())

  const judge = async (
    forwarder: string,
    message: Message,
    { maxBytes, take }: TopicOptions,
  ): Promise<GossipVerdict> => {
    if (message.type !== 'signed') return found('reject', 'unsigned')
    if (message.data.length > maxBytes) return found('reject', 'length')
    const publisher = message.from.toString()
    for (const peerId of new Set([forwarder, publisher])) {
      if (gate?.staked(peerId, 'gossip').ok !== false) continue
      gate.refuse('gossip')
      void gate.resolve(peerId, 'gossip')
      return found('ignore', 'stake')
    }
    if (mutes.has(publisher) || mutes.has(forwarder)) {
      gate?.refuse('gossip', 'muted')
      return found('ignore', 'muted')
    }
    const { topic, data } = message
    if (
      forwarders.take(forwarder, FORWARDER_PER_SECOND, FORWARDER_BURST) > 0 ||
      publishers.take(`${topic} ${publisher}`, PUBLISHER_PER_SECOND, PUBLISHER_BURST) > 0
    ) {
      gate?.refuse('gossip', 'rate')
      return found('ignore', 'rate')
    }
    try {
      const verdict = await take({ publisher, forwarder, data })
      return found(verdict, verdict === 'accept' ? 'new' : 'content')
    } catch (error) {
      log.debug('gossip was not taken', { topic, forwarder, publisher, reason: errorMessage(error) })
      const wrong = error instanceof ChoraleError && error.code === 'protocol'
      return found(
        wrong ? 'reject' : 'ignore',
        (error instanceof ChoraleError && error.field) || errorCode(error),
      )
    }
  }

  return {
    verdicts,
    score: (peerId) => scores.getScore(peerId),
    join: (topic, options) => {
      if (!topics.includes(topic) || service.topicValidators.has(topic)) {
        throw new ChoraleError('bad_request', `topic ${topic} is not free here: ${topics.join(', ')}`)
      }
      const maxBytes = Math.min(options.maxBytes, MAX_GOSSIP_BYTES)
      service.topicValidators.set(topic, async (from, message) => {
        const forwarder = from.toString()
        const verdict = await judge(forwarder, message, { ...options, maxBytes })
        verdicts[verdict]++
        if (verdict === 'reject' && message.type === 'signed') {
          for (const peerId of new Set([forwarder, message.from.toString()])) mutes.strike(peerId)
        }
        return RESULTS[verdict]
      })
      service.subscribe(topic)
      return {
        publish: async (data) => {
          if (data.length > maxBytes) {
            throw new ChoraleError('limit', `gossip of ${data.length} bytes (at most ${maxBytes})`)
          }
          const { recipients } = await service.publish(topic, data)
          return recipients.length
        },
        get listeners() {
          return service.getSubscribers(topic).length
        },
        close: () => {
          // A peer that was closed first has left its topics.
          if (scores.isStarted()) service.unsubscribe(topic)
          service.topicValidators.delete(topic)
        },
      }
    },
  }
}
