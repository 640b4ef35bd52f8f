/** A folder's table as numbers and words: what was found in each file, its order, its sums. */

/** What a model says of a file. */
export interface Row {
  /** With the folders below the chosen one, and that one itself. */
  path: string;
  /** The model's names: the one that is unique, and the one that people read. */
  model: { name: string; title: string };
  /** The class that a folder of the path is named after, or null. */
  truth: string | null;
  /** The most probable class. */
  label: string;
  probability: number;
  /** The model alone. */
  milliseconds: number;
}

/** A file that nothing can be said of. */
export interface Unread {
  path: string;
  reason: string;
}

export type Column = "path" | "model" | "truth" | "label" | "probability" | "milliseconds";

export interface Order {
  column: Column;
  descending: boolean;
}

const words = new Intl.Collator("en", { numeric: true });

function value(row: Row, column: Column): string | number {
  if (column === "model") return row.model.title;
  return row[column] ?? "";
}

/** Negative where `a` stands before `b`: words as people sort them, "9" before "10". */
export function compare(a: Row, b: Row, { column, descending }: Order): number {
  const [left, right] = [value(a, column), value(b, column)];
  const difference =
    typeof left === "number" ? left - (right as number) : words.compare(left, right as string);
  return (descending ? -difference : difference) || words.compare(a.path, b.path);
}

/** Where a row stands among ordered ones: behind those that are its equals. */
export function placeOf(row: Row, ordered: readonly Row[], order: Order): number {
  let [low, high] = [0, ordered.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compare(ordered[middle]!, row, order) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The class that a file's innermost folder with a class's name is named after, or null. */
export function truthOf(path: string, classNames: readonly string[]): string | null {
  // Some file systems keep an accent apart from its letter.
  const known = new Map(classNames.map((name) => [name.normalize(), name]));
  const folders = path.split("/").slice(0, -1).reverse();
  const found = folders.find((folder) => known.has(folder.normalize()));
  return found === undefined ? null : known.get(found.normalize())!;
}

/** How often a model is right where the folders say what is. */
export interface Accuracy {
  title: string;
  right: number;
  counted: number;
}

/** Every model's accuracy; none where no folder is named after a class. */
export function accuracies(rows: readonly Row[]): Accuracy[] {
  const found = new Map<string, Accuracy>();
  for (const { model, truth, label } of rows) {
    if (truth === null) continue;
    const sum = found.get(model.name) ?? { title: model.title, right: 0, counted: 0 };
    found.set(model.name, sum);
    sum.counted++;
    if (truth === label) sum.right++;
  }
  return [...found.values()];
}

/** Words that begin so are formulas to spreadsheets, which run them. */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;

function field(value: string | number): string {
  if (typeof value === "number") return String(value);
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/**
 * The table as RFC 4180 has it. Words that a spreadsheet would take for a formula get an apostrophe
 * before them. A byte order mark says that it is UTF-8, which spreadsheets do not guess.
 */
export function csvOf(rows: readonly Row[], unread: readonly Unread[]): string {
  const lines: (readonly (string | number)[])[] = [
    ["file", "model", "true_class", "class", "probability", "milliseconds", "error"],
    ...rows.map(({ path, model, truth, label, probability, milliseconds }) => [
      path,
      model.name,
      truth ?? "",
      label,
      probability,
      Number(milliseconds.toFixed(3)),
      "",
    ]),
    ...unread.map(({ path, reason }) => [path, "", "", "", "", "", reason]),
  ];
  return `\ufeff${lines.map((line) => `${line.map(field).join(",")}\r\n`).join("")}`;
}
