import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { errorCode, isChoraleError } from '../../src/errors.ts'
import { parseChatTemplate } from '../../src/tokenizer/chat-template.ts'

const OPTIONS = { addGenerationPrompt: true, bosToken: '<s>', eosToken: '</s>' }

function render(source: string, content = 'hi'): string {
  return parseChatTemplate(source).render([{ role: 'user', content }], OPTIONS)
}

function codeOf(action: () => unknown): string {
  try {
    action()
    return 'none'
  } catch (error) {
    return errorCode(error)
  }
}

describe('parseChatTemplate', () => {
  it('gives templates the usual globals', () => {
    expect(render('{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ add_generation_prompt }}')).toBe(
      '<s>hi</s>true',
    )
    expect(render('{{ tools is defined }}{{ range(2, 8, 3) | join(",") }}')).toBe('false2,5')
    expect(render("{{ strftime_now('%Y-%m-%d %%') }}")).toMatch(/^\d{4}-\d\d-\d\d %$/)
    expect(render("{{ strftime_now('%B') }}")).toMatch(/^[A-Z][a-z]+$/)
  })

  it('drops line ends after blocks as transformers does', () => {
    expect(
      render('{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}'),
    ).toBe('hi\n')
  })

  it("passes the template's refusal on as bad_request with its message", () => {
    expect(() => render("{{ raise_exception('Roles must alternate') }}")).toThrow(
      /refuses the messages: Roles must alternate/,
    )
    expect(codeOf(() => render("{{ raise_exception('x') }}"))).toBe('bad_request')
  })

  it.each([
    [
      'a doubling string',
      "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    ],
    ['nested loops', '{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}'],
    ['a huge range', '{% for a in range(1000000000) %}x{% endfor %}'],
    ['endless recursion', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'],
    [
      'a doubling list',
      '{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}',
    ],
  ])('stops %s', (_name, source) => {
    const start = performance.now()
    expect(codeOf(() => render(source))).toBe('bad_file')
    expect(performance.now() - start).toBeLessThan(10_000)
  })

  it('renders a thousand long messages within its limit', () => {
    const template = parseChatTemplate(
      "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}" +
        "{{ '<|' + m.role + '|>\\n' + m.content | trim + '<|end|>\\n' }}{% endfor %}",
    )
    const messages = Array.from({ length: 1000 }, (_, index) => ({
      role: index % 2 === 0 ? ('user' as const) : ('assistant' as const),
      content: 'word '.repeat(400),
    }))
    expect(template.render(messages, OPTIONS).length).toBeGreaterThan(1_900_000)
  })

  it('refuses sources that are too long or no Jinja', () => {
    expect(codeOf(() => parseChatTemplate(' '.repeat(300_000)))).toBe('bad_file')
    expect(codeOf(() => parseChatTemplate('{% for %}'))).toBe('bad_file')
    expect(codeOf(() => parseChatTemplate(`{{ ${'('.repeat(50_000)}`))).toBe('bad_file')
    expect(codeOf(() => render('{{ messages | nofilter }}'))).toBe('not_supported')
  })

  it('throws nothing but its own errors on 20,000 broken templates', () => {
    const pieces = fc.constantFrom(
      '{% for m in messages %}',
      '{% endfor %}',
      '{{ ',
      ' }}',
      "m['content']",
      'm.role',
      ' | trim',
      ' | length',
      "'a'",
      ' + ',
      '{% if m %}',
      '{% endif %}',
      '{% set x = 1 %}',
      '{% set ns = namespace(a=1) %}',
      'ns.a',
      '[',
      ']',
      '(',
      ')',
      '1',
      ' - ',
      'range(9)',
      'raise_exception("no")',
      '{# x #}',
      '{%- ',
      ' -%}',
      '\n',
      ' in ',
      ' is defined',
      ' | tojson',
      ' % ',
      '"',
      '\\',
      '{% macro f(a) %}',
      '{% endmacro %}',
      'f(1)',
      '**',
      ' // ',
      '.split("a")',
      '[1:]',
      '[::-1]',
      ' ~ ',
      ' if x else y',
      '🦊',
    )
    let rendered = 0
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => {
        try {
          render(parts.join(''))
          rendered++
        } catch (error) {
          if (!isChoraleError(error) || error.code === 'internal') throw error
        }
      }),
      { numRuns: 20_000, seed: 1 },
    )
    expect(rendered).toBeGreaterThan(100)
  })
})
