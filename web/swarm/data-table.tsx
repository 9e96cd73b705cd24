import type { ComponentChildren } from 'preact'

/** A table that scrolls sideways where it is too wide, by keyboard too. The rows are its children. */
export function DataTable(props: {
  /** What a screen reader calls it. */
  readonly label: string
  readonly heads: readonly string[]
  /** The label is the table's caption as well, for screen readers. */
  readonly hasCaption?: boolean
  readonly class: string
  readonly children: ComponentChildren
}) {
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={props.label}>
      <table class={props.class}>
        {props.hasCaption === true && <caption class="sr-only">{props.label}</caption>}
        <thead>
          <tr>
            {props.heads.map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{props.children}</tbody>
      </table>
    </div>
  )
}
