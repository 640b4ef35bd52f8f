/** What was measured, remembered on this device: of each file, until the page or the browser changes. */
import type { Measurement } from "./measuring";

interface Kept {
  version: string;
  files: Record<string, readonly Measurement[]>;
}

export class Memory {
  private files: Record<string, readonly Measurement[]>;

  /**
   * @param storage Null where the browser gives none: then this page alone remembers.
   * @param name All pages of one origin share the storage.
   * @param version Of the page and of the browser; what another one has measured is forgotten.
   */
  constructor(
    private readonly storage: Storage | null,
    private readonly name: string,
    private readonly version: string,
  ) {
    this.files = this.read();
  }

  get(file: string): readonly Measurement[] | undefined {
    return this.files[file];
  }

  /** @param lasts Whether the next visit may read it. */
  set(file: string, measurements: readonly Measurement[], lasts: boolean): void {
    this.files[file] = measurements;
    if (lasts) this.write((files) => void (files[file] = measurements));
  }

  forget(file: string): void {
    delete this.files[file];
    this.write((files) => void delete files[file]);
  }

  private read(): Record<string, readonly Measurement[]> {
    try {
      const kept = JSON.parse(this.storage?.getItem(this.name) ?? "null") as Kept | null;
      if (kept?.version === this.version) return kept.files;
    } catch {
      // Not what this page wrote.
    }
    return {};
  }

  private write(change: (files: Kept["files"]) => void): void {
    // Another tab may have measured meanwhile.
    const files = this.read();
    change(files);
    try {
      const kept: Kept = { version: this.version, files };
      this.storage?.setItem(this.name, JSON.stringify(kept));
    } catch {
      // Full, or forbidden.
    }
  }
}

/** The device's storage, or null where it is forbidden. */
export function deviceStorage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}
