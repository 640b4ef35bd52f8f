/**
 * The service worker: the application starts and predicts without a connection.
 *
 * Files with a hash or version in their address never change and come from the cache first. The
 * pages, `models.json` and the rest come from the network where it answers, else from the cache.
 * How is Workbox's part; which files are this site's, and how long they stay, is told here.
 *
 * All sites of one origin share their caches: this one's are named after its path, and it answers
 * for no address outside of it.
 */
import type { WorkboxPlugin } from "workbox-core";
import { registerRoute } from "workbox-routing";
import { CacheFirst, NetworkFirst } from "workbox-strategies";

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
const NETWORK_PATIENCE_S = 4;
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

/** This site's caches of other versions, in the order in which they were made. */
async function olderCaches(): Promise<string[]> {
  return (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
}

/** Keeps what is whole and no error. */
const keepWhole: WorkboxPlugin = {
  cacheWillUpdate: async ({ response }) =>
    response.status === 200 && response.type === "basic" ? response : null,
};
/** The same of what need not be proven first. */
const keepAtOnce: WorkboxPlugin = {
  cacheWillUpdate: async (found) =>
    PROVEN.test(pathOf(found.request.url)!) ? null : keepWhole.cacheWillUpdate!(found),
};
/** The copy of a file that never changes may be the last version's. */
const seekInOlder: WorkboxPlugin = {
  cachedResponseWillBeUsed: async ({ cachedResponse, request }) => {
    if (cachedResponse) return cachedResponse;
    for (const name of await olderCaches()) {
      const found = await (await caches.open(name)).match(request);
      if (found) return found;
    }
    return null;
  },
};
/** A host in trouble answers with an error page: a copy is better, and without one the answer. */
const copyBeforeError: WorkboxPlugin = {
  fetchDidSucceed: async ({ response, state }) => {
    if (response.status < 400) return response;
    state!.answer = response;
    throw new Error(`status ${response.status}`);
  },
  handlerDidError: async ({ state }) => state!.answer as Response | undefined,
};

const unchanging = new CacheFirst({ cacheName: CACHE, plugins: [keepAtOnce, seekInOlder] });
const proven = new CacheFirst({ cacheName: CACHE, plugins: [keepWhole] });
const networkFirst = {
  cacheName: CACHE,
  networkTimeoutSeconds: NETWORK_PATIENCE_S,
  plugins: [keepWhole, copyBeforeError],
};
const changing = new NetworkFirst(networkFirst);
/** A page's own address may ask for a model: it is the same page. */
const page = new NetworkFirst({ ...networkFirst, matchOptions: { ignoreSearch: true } });

/** Has a file of this site in the cache, if it can be had. */
async function keep(event: ExtendableEvent, urls: string[]): Promise<void> {
  const own = urls.filter((url) => pathOf(url) !== null);
  await Promise.all(own.map((request) => Promise.all(proven.handleAll({ event, request }))));
}

async function install(event: ExtendableEvent): Promise<void> {
  await keep(event, [...FIXED, ...FILES]);
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
  const older = await olderCaches();
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

self.addEventListener("install", (event) => event.waitUntil(install(event)));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("message", (event) => {
  const { kind, urls } = event.data as { kind: string; urls: string[] };
  if (kind === "keep") event.waitUntil(keep(event, urls).then(prune));
});
registerRoute(
  ({ url }) => pathOf(url.href) !== null,
  (options) => {
    const { request } = options;
    if (UNCHANGING.test(pathOf(request.url)!)) return unchanging.handle(options);
    return (request.mode === "navigate" ? page : changing).handle(options);
  },
);
