/**
 * The service worker: the application starts and predicts without a connection.
 *
 * Files with a hash or version in their address never change and come from the cache first. The
 * pages, `models.json` and the rest come from the network where it answers, else from the cache.
 *
 * All sites of one origin share their caches: this one's are named after its path, and it answers
 * for no address outside of it.
 */
export type {};

declare const self: ServiceWorkerGlobalScope;

declare const __RUNTIMES__: string;

const RUNTIMES = __RUNTIMES__;
// Both are filled in by the build: the page's own files, and a hash of their contents.
const FILES = "__FILES__" as unknown as string[];
const VERSION = "__VERSION__";
const SCOPE = new URL(self.registration.scope).pathname;
const PREFIX = `mobilevit:${encodeURIComponent(SCOPE)}:`;
const CACHE = PREFIX + VERSION;
const FIXED = [
  "./",
  "benchmark/",
  "models.json",
  "manifest.webmanifest",
  "icons/icon.svg",
  "icons/icon-192.png",
];
const NETWORK_PATIENCE_MS = 4000;
// All of these match paths relative to the site.
const UNCHANGING = /^(assets|runtimes|models)\//;
// Kept only once the page reports that they work: a broken download must not stay.
const PROVEN = /^(runtimes|models)\//;
// What an older version of the application kept and this one needs as much.
const LASTING = /^(runtimes|models|samples)\/([^/]+)/;
/** The application's own files: a folder of the site may hold another site. */
const OWN =
  /^((assets|runtimes|models|samples|icons|benchmark)(\/.*)?|index\.html|models\.json|manifest\.webmanifest|infer\.js)?$/;
/** Caches of 0.1.0, which were named without the site's path. */
const UNNAMED = /^mobilevit-[0-9a-f]{12}$/;

/** An address's path relative to this site, or null for what is none of its files. */
function pathOf(address: string): string | null {
  const { origin, pathname } = new URL(address, self.location.href);
  if (origin !== self.location.origin || !pathname.startsWith(SCOPE)) return null;
  const path = pathname.slice(SCOPE.length);
  return OWN.test(path) ? path : null;
}

/** Whether a response may be kept: whole, and no error. */
function isWhole(response: Response): boolean {
  return response.status === 200 && response.type === "basic";
}

async function keep(urls: string[]): Promise<void> {
  const cache = await caches.open(CACHE);
  await Promise.all(
    urls.map(async (url) => {
      if (pathOf(url) === null || (await cache.match(url))) return;
      const response = await fetch(url);
      if (isWhole(response)) await cache.put(url, response);
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
    const [, kind, name] = LASTING.exec(pathOf(request.url) ?? "") ?? [];
    const ends = [`/${name}/`, `/${name}"`];
    const list = kind === "runtimes" ? RUNTIMES : index;
    if (kind && !ends.some((end) => list.includes(end))) await cache.delete(request);
  }
}

/** Takes what lasts out of another cache; returns what else it holds of this site. */
async function takeFrom(name: string): Promise<Request[]> {
  const [cache, old] = await Promise.all([caches.open(CACHE), caches.open(name)]);
  const rest: Request[] = [];
  for (const request of await old.keys()) {
    const path = pathOf(request.url);
    if (path === null) continue;
    const response = LASTING.test(path) ? await old.match(request) : undefined;
    if (response) {
      await cache.put(request, response);
      await old.delete(request);
    } else rest.push(request);
  }
  return rest;
}

/**
 * Takes over what lasts from older versions and ends them; but the last one's own scripts stay
 * until the next version, for tabs that it still shows.
 */
async function activate(): Promise<void> {
  // In the order in which they were made.
  const older = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  for (const name of older) await takeFrom(name);
  for (const name of older.slice(0, -1)) await caches.delete(name);
  for (const name of (await caches.keys()).filter((other) => UNNAMED.test(other))) {
    const old = await caches.open(name);
    for (const request of await takeFrom(name)) await old.delete(request);
    if ((await old.keys()).length === 0) await caches.delete(name);
  }
  await prune();
  await self.clients.claim();
}

function patience(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error("slow network")), NETWORK_PATIENCE_MS);
  });
}

async function fromNetwork(request: Request, path: string): Promise<Response> {
  const response = await fetch(request);
  if (isWhole(response) && !PROVEN.test(path)) {
    await (await caches.open(CACHE)).put(request, response.clone());
  }
  return response;
}

/** The kept copy: this version's, or the last one's of a file that never changes. */
async function kept(request: Request, path: string): Promise<Response | undefined> {
  const options = { ignoreSearch: request.mode === "navigate" };
  const own = await (await caches.open(CACHE)).match(request, options);
  if (own || !UNCHANGING.test(path)) return own;
  for (const name of await caches.keys()) {
    if (!name.startsWith(PREFIX)) continue;
    const found = await (await caches.open(name)).match(request, options);
    if (found) return found;
  }
  return undefined;
}

async function answer(request: Request, path: string): Promise<Response> {
  const copy = await kept(request, path);
  if (copy && UNCHANGING.test(path)) return copy;
  if (!copy) return fromNetwork(request, path);
  try {
    const response = await Promise.race([fromNetwork(request, path), patience()]);
    // A host in trouble answers with an error page: the copy is better.
    return response.status >= 400 ? copy : response;
  } catch {
    return copy;
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
  const path = pathOf(request.url);
  if (request.method === "GET" && path !== null) event.respondWith(answer(request, path));
});
