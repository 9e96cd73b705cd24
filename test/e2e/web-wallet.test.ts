import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type LocalLedger, startLocalLedger } from '../../node/local-ledger.ts'
import type { Ledger } from '../../src/ledger/ledger.ts'
import { connectLedger } from '../../src/ledger/substrate.ts'
import { devAccount } from '../../src/ledger/substrate/dev-accounts.ts'
import { silentLogger } from '../../src/log.ts'
import { createIdentity } from '../../src/swarm/identity.ts'
import { axe } from '../web/axe.ts'
import { CHROMIUM, launchChromium, openTab, type Tab } from '../web/chromium.ts'
import { type FakeWallet, injectWallets } from '../web/fake-wallet.ts'
import { startWebSwarm, type WebSwarm } from '../web/web-swarm.ts'

const UNIT = 10n ** 18n
const BLOCK_MS = 150
const SHOTS = join(import.meta.dirname, '../../test-results/web')
/** Labels and names come from elsewhere: this one tries to run. */
const LABEL = '<img src=x onerror="hacked = 1">'

describe.skipIf(CHROMIUM === undefined)('the Wallet page on a dev chain', () => {
  let chain: LocalLedger
  let ledger: Ledger
  let swarm: WebSwarm
  let browser: Browser
  let tab: Tab
  let page: Page
  let wallet: FakeWallet
  /** Number of the node whose coldkey is Baltathar. */
  let nodeId: number

  beforeAll(async () => {
    mkdirSync(SHOTS, { recursive: true })
    const random = () => crypto.getRandomValues(new Uint8Array(32))
    const peers = await Promise.all(Array.from({ length: 5 }, () => createIdentity(random())))
    const [bootnode = '', client = '', ...servers] = peers.map(({ peerId }) => peerId)
    ;[chain, swarm, browser] = await Promise.all([
      startLocalLedger({
        nodes: servers.map((peerId) => ({ peerId, hotkeySecret: random() })),
        bootnode,
        client,
        blockMs: BLOCK_MS,
        log: silentLogger,
      }),
      startWebSwarm([{ start: 0, end: 8 }]),
      launchChromium(),
    ])
    chain.run()
    ledger = await connectLedger(chain.url)
    nodeId = (await ownNode())!.id
    tab = await openTab(browser, `${swarm.url}#/wallet`)
    page = tab.page
    wallet = await injectWallets(page, [
      { name: 'baltathar', label: 'Savings', type: 'ethereum' },
      { name: 'alith', label: LABEL, type: 'ethereum' },
      { name: 'ethan', label: 'Hotkey', type: 'ethereum' },
      { name: 'alice', label: 'Elsewhere', type: 'sr25519' },
    ])
    await page.reload()
  }, 120_000)

  afterAll(async () => {
    await browser?.close()
    await ledger?.close()
    await swarm?.close()
    await chain?.close()
  })

  const ownNode = async () =>
    (await ledger.nodes(chain.subnetId)).find(({ coldkey }) => coldkey === devAccount('baltathar').address)
  const calls = () => page.locator('.sendings li')
  const panel = () => page.locator('section[aria-labelledby=account-title]')

  /** Fills the form of an action and opens the summary. */
  async function review(action: string, fields: Readonly<Record<string, string>> = {}): Promise<void> {
    await page.getByRole('button', { name: action, exact: true }).click()
    for (const [label, value] of Object.entries(fields)) {
      await page.getByLabel(label, { exact: true }).fill(value)
    }
    await page.getByRole('button', { name: 'Review' }).click()
  }

  /** Signs what is in review and waits for its last state. @returns its words. */
  async function sign(): Promise<string> {
    const before = await calls().count()
    await page.getByRole('button', { name: 'Sign with fake' }).click()
    await expect.poll(() => calls().count()).toBe(before + 1)
    const newest = calls().first()
    await expect
      .poll(async () => (await newest.getAttribute('class')) ?? '', { timeout: 20_000 })
      .toMatch(/final|failed/)
    return await newest.innerText()
  }

  it('loads the libraries of the chain only when the user connects', async () => {
    await page.getByRole('heading', { name: 'Wallet', exact: true }).waitFor()
    const loaded = () => tab.requests.filter(({ url }) => /substrate-|accounts-/.test(url)).length
    expect(loaded()).toBe(0)
    await page.getByLabel('Node of the ledger').fill(chain.url)
    await page.getByRole('button', { name: 'Connect', exact: true }).click()
    await page.getByText('Chorale Development').waitFor()
    expect(loaded()).toBeGreaterThan(0)
  })

  it('asks the chosen wallet alone, and lets only accounts of the chain’s kind sign', async () => {
    await page.getByRole('button', { name: 'fake 1.2.3' }).click()
    await page.getByRole('radio', { name: /Savings/ }).check()
    expect(wallet.asked).toEqual(['fake'])
    expect(await page.getByRole('radio', { name: /Elsewhere/ }).isDisabled()).toBe(true)
    await panel()
      .getByText(/200 TENSOR/)
      .waitFor()
    const text = await panel().innerText()
    expect(text).toContain(`node ${nodeId} of local (128001)`)
    expect(text).toMatch(/Validator, reputation \d+ %/)
  })

  it('bond: the summary tells amount, fee, account and what happens; the stake grows when it is signed', async () => {
    await review('Bond', { 'Amount in TENSOR': '10' })
    const dialog = page.getByRole('dialog')
    await expect.poll(() => dialog.innerText()).toMatch(/Fee\s+[\d.]+ TENSOR at most/)
    const text = await dialog.innerText()
    expect(text).toContain(`Stake 10 TENSOR for node ${nodeId} of subnet local (128001)`)
    expect(text).toContain(devAccount('baltathar').address)
    expect(text).toContain('from 200 TENSOR to 210 TENSOR')
    await page.screenshot({ path: join(SHOTS, 'wallet-review-light.png') })
    expect(await axe(page)).toEqual([])
    expect(wallet.payloads).toEqual([])
    expect(await sign()).toMatch(/Final, in block/)
    await panel().getByText('210 TENSOR').waitFor()
    expect((await ownNode())?.stake).toBe(210n * UNIT)
  })

  it('says in words what does not fit, before the wallet is asked', async () => {
    const before = wallet.payloads.length
    await review('Bond', { 'Amount in TENSOR': '100' })
    await page.getByText('a node may have 250 TENSOR at most: bond 40 TENSOR or less').waitFor()
    await review('Unbond', { 'Amount in TENSOR': '150' })
    await page.getByText('a live node keeps 100 TENSOR: take 110 TENSOR or less').waitFor()
    await review('Claim')
    await page.getByText('nothing can be claimed yet').waitFor()
    expect(wallet.payloads.length).toBe(before)
  })

  it('a signature that the user refuses sends nothing', async () => {
    wallet.refuse = true
    await review('Bond', { 'Amount in TENSOR': '1' })
    expect(await sign()).toMatch(/Failed: not signed, nothing was sent/)
    wallet.refuse = false
    expect((await ownNode())?.stake).toBe(210n * UNIT)
  })

  it('unbond: what cools down is shown with when it can be claimed; a refusal of the chain in its words', async () => {
    const deadline = Date.now() + 60_000
    for (;;) {
      await review('Unbond', { 'Amount in TENSOR': '5' })
      const said = await sign()
      if (/Final/.test(said)) break
      // Which node is elected is drawn: it must keep its stake until the next epoch.
      expect(said).toMatch(/Failed: Network\.\w+: .*(elected|young)/)
      if (Date.now() > deadline) throw new Error(said)
      await new Promise((resolve) => setTimeout(resolve, 20 * BLOCK_MS))
    }
    await panel()
      .getByText(/claimable (in \d+ blocks|now)/)
      .waitFor()
    await panel().getByText('205 TENSOR').waitFor()
  }, 90_000)

  it('delegate, undelegate and claim: the tokens come back', async () => {
    await page.getByRole('radio', { name: /onerror/ }).check()
    await expect.poll(() => panel().innerText()).toMatch(/Free\s+≈? ?\d/)
    await review('Delegate', { 'Amount in TENSOR': '20' })
    expect(await sign()).toMatch(/Final/)
    await panel()
      .getByText(/in the pool of subnet local/)
      .waitFor()
    await review('Undelegate', { 'Amount in TENSOR': 'all' })
    expect(await sign()).toMatch(/Final/)
    await panel().getByText('claimable now').waitFor({ timeout: 60_000 })
    const { address } = devAccount('alith')
    const before = await ledger.balance(address)
    await review('Claim')
    expect(await sign()).toMatch(/Final/)
    expect((await ledger.balance(address)) - before).toBeGreaterThan(19n * UNIT)
  }, 90_000)

  it('registers this browser’s own peer as a node', async () => {
    await page.getByRole('button', { name: 'Register a node' }).click()
    const peer = page.getByLabel('Peer id')
    await expect.poll(() => peer.inputValue()).toMatch(/^12D3Koo/)
    const peerId = await peer.inputValue()
    await review('Register a node', { Hotkey: devAccount('alith').address })
    await page.getByText('the hotkey must be another account').waitFor()
    await review('Register a node', { Hotkey: devAccount('ethan').address, 'Amount in TENSOR': '120' })
    await expect.poll(() => page.getByRole('dialog').innerText()).toContain(peerId)
    expect(await sign()).toMatch(/Final/)
    const made = (await ledger.nodes(chain.subnetId)).find((node) => node.peerId === peerId)
    expect(made).toMatchObject({ stake: 120n * UNIT, coldkey: devAccount('alith').address.toLowerCase() })
    await panel().getByText('120 TENSOR').waitFor()
  })

  it.each(['light', 'dark'] as const)('is accessible in %s colours, wide and narrow', async (scheme) => {
    await page.emulateMedia({ colorScheme: scheme })
    const found: string[] = []
    // As high as the page is: pictures show all of it.
    for (const [name, width] of [
      ['wallet', 1280],
      ['wallet-phone', 390],
    ] as const) {
      await page.setViewportSize({ width, height: 2400 })
      found.push(...(await axe(page)).map((line) => `${name}: ${line}`))
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width)
      await page.screenshot({ path: join(SHOTS, `${name}-${scheme}.png`) })
    }
    await page.setViewportSize({ width: 1280, height: 800 })
    expect(found).toEqual([])
  })

  it('remembers the choice, not the permission', async () => {
    const before = wallet.asked.length
    await page.reload()
    await page.getByText('last used').waitFor()
    expect(await page.getByLabel('Node of the ledger').inputValue()).toBe(chain.url)
    expect(wallet.asked.length).toBe(before)
    expect(await panel().count()).toBe(0)
  })

  it('reported no error, ran nothing and asked no other host', async () => {
    expect(await page.evaluate(() => 'hacked' in globalThis)).toBe(false)
    expect(tab.problems).toEqual([])
  })
})
