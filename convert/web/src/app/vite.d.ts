/** Vite's own imports that are used here. */
declare module "*?worker&url" {
  const url: string;
  export default url;
}
