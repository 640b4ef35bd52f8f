/** The folder's part of the page: progress, the table with its order, what could not be read. */
import { byId, make } from "../dom";
import { text } from "../text";
import type { View } from "./batch";
import { accuracies, type Column, compare, csvOf, type Order, placeOf, type Row, type Unread } from "./rows";

const COLUMNS: readonly Column[] = ["path", "truth", "label", "probability", "milliseconds", "model"];

function cells({ path, truth, label, probability, milliseconds, model }: Row): HTMLElement[] {
  const isRight = truth === label;
  const judged = truth === null ? [] : [
    truth,
    " ",
    make(
      "span",
      { role: "img", "aria-label": isRight ? text.folderRight : text.folderWrong },
      isRight ? "✓" : "✗",
    ),
  ];
  return [
    make("th", { scope: "row" }, path),
    make("td", {}, ...judged),
    make("td", {}, label),
    make("td", { class: "number", "data-value": String(probability) }, text.percent(probability)),
    make("td", { class: "number" }, text.milliseconds(milliseconds)),
    make("td", {}, model.title),
  ];
}

export class Panel implements View {
  private rows: Row[] = [];
  private unreadFiles: Unread[] = [];
  private order: Order | undefined;
  /** The rows as they stand in the table. */
  private shown: Row[] = [];
  private readonly lines = new Map<Row, HTMLTableRowElement>();
  private count = 0;
  private done = 0;
  private readonly body = byId<HTMLTableSectionElement>("folder-rows");
  private readonly heads = new Map<Column, HTMLElement>();

  constructor(readonly complain: (error: unknown) => void) {
    for (const column of COLUMNS) {
      const button = make("button", { type: "button", class: "sort" }, text.folderColumns[column]);
      button.addEventListener("click", () => this.sort(column));
      this.heads.set(column, make("th", { scope: "col" }, button));
    }
    byId("folder-heads").replaceChildren(...this.heads.values());
  }

  begin(count: number): void {
    this.rows = [];
    this.shown = [];
    this.unreadFiles = [];
    this.lines.clear();
    this.count = count;
    this.body.replaceChildren();
    byId("folder-table").hidden = true;
    byId("folder-save").hidden = true;
    byId("folder-unread").replaceChildren();
    byId("folder-bar").hidden = false;
    byId("folder-sum").textContent = "";
    this.progress(0);
  }

  row(row: Row): void {
    this.rows.push(row);
    const line = make("tr", {}, ...cells(row));
    this.lines.set(row, line);
    const at = this.order ? placeOf(row, this.shown, this.order) : this.shown.length;
    this.body.insertBefore(line, this.body.rows[at] ?? null);
    this.shown.splice(at, 0, row);
    byId("folder-table").hidden = false;
  }

  unread(unread: Unread): void {
    this.unreadFiles.push(unread);
    const box = byId("folder-unread");
    if (this.unreadFiles.length === 1) {
      box.append(make("details", {}, make("summary"), make("ul")));
    }
    box.querySelector("summary")!.textContent = text.folderUnread(this.unreadFiles.length);
    box.querySelector("ul")!.append(make("li", {}, text.folderReason(unread.path, unread.reason)));
  }

  progress(done: number): void {
    this.done = done;
    const bar = byId<HTMLProgressElement>("folder-bar");
    [bar.max, bar.value] = [Math.max(1, this.count), done];
    byId("folder-progress").textContent = text.folderProgress(done, this.count);
  }

  end(stopped: boolean): void {
    byId("folder-bar").hidden = true;
    byId("folder-progress").textContent = "";
    byId("folder-save").hidden = this.rows.length + this.unreadFiles.length === 0;
    const sums = accuracies(this.rows);
    byId("folder-sum").textContent = [
      stopped ? text.folderStopped(this.done, this.count) : text.folderDone(this.count),
      ...sums.map(({ title, right, counted }) =>
        text.folderAccuracy(sums.length > 1 ? title : "", text.percent(right / counted), right, counted),
      ),
    ].join(" ");
  }

  /** The table as a file, in the order in which it stands. */
  csv(): Blob {
    return new Blob([csvOf(this.shown, this.unreadFiles)], { type: "text/csv;charset=utf-8" });
  }

  /** By this column; pressed again, the other way round. */
  private sort(column: Column): void {
    const descending = this.order?.column === column && !this.order.descending;
    const order = (this.order = { column, descending });
    for (const [name, head] of this.heads) {
      if (name === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    this.shown = [...this.rows].sort((a, b) => compare(a, b, order));
    this.body.replaceChildren(...this.shown.map((row) => this.lines.get(row)!));
  }
}
