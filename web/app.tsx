import { useEffect, useState } from 'preact/hooks'
import { phase, startSession, tabModel } from './session/tab-session.ts'

export function App() {
  const [text, setText] = useState('')
  useEffect(() => void startSession(new URL('.', location.href).href, undefined), [])
  const ask = async () => {
    const done = await tabModel.value!.answer(
      {
        messages: [{ role: 'user', content: 'Tell me a story about a fox.' }],
        system: undefined,
        maxTokens: 40,
        sampling: { temperature: 0 },
      },
      { onText: (t) => setText((old) => old + t), onFailover() {}, onDropped() {} },
      new AbortController().signal,
    )
    setText((old) => old + '\n' + JSON.stringify(done))
  }
  return (
    <div>
      <pre>
        {JSON.stringify(phase.value)} {JSON.stringify(tabModel.value?.loaded)}
      </pre>
      <button onClick={ask}>ask</button>
      <pre id="out">{text}</pre>
    </div>
  )
}
