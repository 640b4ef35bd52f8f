/** Results that leave the page, because somebody wants them to: as text, a picture or a file. */

/** Copies words; also on plain http, where there is no clipboard object. */
export async function copyText(words: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(words);
  } catch {
    const box = document.createElement("textarea");
    box.className = "visually-hidden";
    box.readOnly = true;
    box.value = words;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
}

/** Hands a picture to other applications where the device can, else saves it as a file. */
export async function sharePicture(picture: Blob, name: string): Promise<void> {
  const file = new File([picture], name, { type: picture.type });
  const data = { files: [file] };
  // On a desk a file in the downloads is what people look for.
  const isPhone = matchMedia("(pointer: coarse)").matches;
  if (isPhone && navigator.canShare?.(data)) {
    try {
      return await navigator.share(data);
    } catch (error) {
      // Somebody has changed their mind; anything else ends as a file.
      if (error instanceof DOMException && error.name === "AbortError") return;
    }
  }
  saveFile(file, name);
}

/** Saves a file among the downloads. */
export function saveFile(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  // The download has its own hold of it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
