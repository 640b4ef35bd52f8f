/**
 * The service worker: the application starts and predicts without a connection.
 *
 * Files with a hash or version in their address never change and come from the cache first. The
 * pages, `models.json` and the rest come from the network where it answers, else from the cache.
 */
export type {};

declare const self: ServiceWorkerGlobalScope;

declare const __RUNTIMES__: string;

const RUNTIMES = __RUNTIMES__;
// Both are filled in by the build: the page's own files, and a hash of their contents.
const FILES = "__FILES__" as unknown as string[];
const CACHE = "mobilevit-__VERSION__";
const FIXED = [
  "./",
  "benchmark/",
  "models.json",
  "manifest.webmanifest",
  "icons/icon.svg",
  "icons/icon-192.png",
];
const NETWORK_PATIENCE_MS = 4000;
const UNCHANGING = /\/(assets|runtimes|models)\//;
// Kept only once the page reports that they work: a broken download must not stay.
const PROVEN = /\/(runtimes|models)\//;
// What an older version of the application kept and this one needs as much.
const LASTING = /\/(runtimes|models|samples)\/([^/]+)/;

async function keep(urls: string[]): Promise<void> {
  const cache = await caches.open(CACHE);
  await Promise.all(
    urls.map(async (url) => {
      if (new URL(url, self.location.href).origin !== self.location.origin) return;
      if (await cache.match(url)) return;
      const response = await fetch(url);
      if (response.ok) await cache.put(url, response);
    }),
  );
}

async function install(): Promise<void> {
  await keep([...FIXED, ...FILES]);
  await self.skipWaiting();
}

/** Drops runtimes, models and samples that this site no longer has. */
async function prune(): Promise<void> {
  const cache = await caches.open(CACHE);
  const index = (await (await cache.match("models.json"))?.text()) ?? "";
  for (const request of await cache.keys()) {
    const [, kind, name] = LASTING.exec(request.url) ?? [];
    const ends = [`/${name}/`, `/${name}"`];
    const list = kind === "runtimes" ? RUNTIMES : index;
    if (kind && !ends.some((end) => list.includes(end))) await cache.delete(request);
  }
}

/** Takes over what lasts from an older version of the application, and ends it. */
async function activate(): Promise<void> {
  const cache = await caches.open(CACHE);
  for (const name of await caches.keys()) {
    if (!name.startsWith("mobilevit-") || name === CACHE) continue;
    const old = await caches.open(name);
    for (const request of await old.keys()) {
      const response = LASTING.test(request.url) ? await old.match(request) : undefined;
      if (response) await cache.put(request, response);
    }
    await caches.delete(name);
  }
  await prune();
  await self.clients.claim();
}

function patience(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error("slow network")), NETWORK_PATIENCE_MS);
  });
}

async function fromNetwork(request: Request): Promise<Response> {
  const response = await fetch(request);
  if (response.ok && !PROVEN.test(new URL(request.url).pathname)) {
    await (await caches.open(CACHE)).put(request, response.clone());
  }
  return response;
}

async function answer(request: Request): Promise<Response> {
  const cached = await caches.match(request, { ignoreSearch: request.mode === "navigate" });
  if (cached && UNCHANGING.test(new URL(request.url).pathname)) return cached;
  if (!cached) return fromNetwork(request);
  try {
    return await Promise.race([fromNetwork(request), patience()]);
  } catch {
    return cached;
  }
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("message", (event) => {
  const { kind, urls } = event.data as { kind: string; urls: string[] };
  if (kind === "keep") event.waitUntil(keep(urls).then(prune));
});
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === self.location.origin) {
    event.respondWith(answer(request));
  }
});
