/** A table for people: aligned columns, one line a row. Pure. */

export interface TextColumn {
  readonly title: string;
  /** Numbers are easier to compare when they end below each other. */
  readonly right?: boolean;
}

/** The head and the rows as lines. Cells must hold no line breaks (`oneLined`). */
export function textTable(columns: readonly TextColumn[], rows: readonly (readonly string[])[]): string {
  const lines = [columns.map(({ title }) => title), ...rows];
  const widths = columns.map((_, column) => Math.max(...lines.map(cells => cells[column]?.length ?? 0)));
  return lines
    .map(cells =>
      columns
        .map(({ right }, column) => {
          const cell = cells[column] ?? '';
          const width = widths[column] ?? 0;
          return right === true ? cell.padStart(width) : cell.padEnd(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
