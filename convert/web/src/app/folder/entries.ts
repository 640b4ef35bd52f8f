/** The files of a folder, as a person chooses or drops them. */
import { isModel } from "../image_input";

export interface Entry {
  /** With the folders below the chosen one, and that one itself. */
  path: string;
  file: File;
}

/** What begins with a dot, or lies in such a folder, is the system's own. */
function isHidden({ path }: Entry): boolean {
  return path.split("/").some((part) => part.startsWith("."));
}

const words = new Intl.Collator("en", { numeric: true });

function usable(entries: readonly Entry[]): Entry[] {
  return entries.filter((entry) => !isHidden(entry)).sort((a, b) => words.compare(a.path, b.path));
}

/** What an input holds: a folder's files, or several ones. */
export function chosenEntries({ files }: HTMLInputElement): Entry[] {
  return usable([...(files ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
}

/**
 * What is dropped, where it is a folder or several files without a model among them; else null.
 * To be called while the event lasts: the files can be read afterwards.
 */
export function droppedEntries(data: DataTransfer | null): Promise<Entry[]> | null {
  const files = [...(data?.files ?? [])];
  if (!data || files.some(isModel)) return null;
  const handles = [...data.items].flatMap((item) => item.webkitGetAsEntry?.() ?? []);
  if (handles.some(({ isDirectory }) => isDirectory)) {
    return Promise.all(handles.map(below)).then((found) => usable(found.flat()));
  }
  if (files.length < 2) return null;
  return Promise.resolve(usable(files.map((file) => ({ path: file.name, file }))));
}

async function below(entry: FileSystemEntry): Promise<Entry[]> {
  if (!entry.isDirectory) {
    const file = await new Promise<File>((resolve, reject) => {
      (entry as FileSystemFileEntry).file(resolve, reject);
    });
    return [{ path: entry.fullPath.slice(1), file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Entry[] = [];
  // A browser hands them over by the hundred.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (some.length === 0) return found;
    for (const one of some) found.push(...(await below(one)));
  }
}
