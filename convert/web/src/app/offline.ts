/** Starts the service worker and tells it which files are in use, so that they stay. */
import type { Engine } from "./engine";

/** Registers the service worker where the browser and the address allow one. */
export function registerServiceWorker(): void {
  if (!("serviceWorker" in navigator) || !window.isSecureContext) return;
  void navigator.serviceWorker.register(new URL("service_worker.js", document.baseURI)).catch(() => undefined);
}

/** Has every file that this page and its worker read kept for use without a connection. */
export async function keepForOffline(engine: Engine): Promise<void> {
  if (!("serviceWorker" in navigator) || !window.isSecureContext) return;
  try {
    const registration = await navigator.serviceWorker.ready;
    const own = performance.getEntriesByType("resource").map(({ name }) => name);
    const urls = [...own, ...(await engine.request("resources", {}))];
    registration.active?.postMessage({ kind: "keep", urls: [...new Set(urls)] });
  } catch {
    // The worker ended meanwhile: the files are kept after the next prediction.
  }
}
