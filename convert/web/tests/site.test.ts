/** Names of models, and links that open given ones. */
import assert from "node:assert/strict";
import test from "node:test";
import { linkedModels, linkTo, type SiteModel, variantTitle } from "../src/app/site";

const made = (id: string, file?: File): SiteModel => ({ id, name: id, title: id, detail: "", files: {}, reports: {}, file });
const [a, b, c] = ["xxs-int8-0123456789", "xxs-float32-0123456789", "s-int8-aaaaaaaaaa"].map((id) => made(id)) as [
  SiteModel,
  SiteModel,
  SiteModel,
];
const models = [a, b, c];

test("without a link the first model", () => {
  assert.deepEqual(linkedModels("https://h/site/", models), [a]);
  assert.deepEqual(linkedModels("https://h/site/?model=other", models), [a]);
  assert.equal(linkTo("https://h/site/?model=x&lang=de", models, [a]), "https://h/site/?lang=de");
});

test("a link opens what was selected when it was made", () => {
  const link = linkTo("https://h/site/", models, [b, c]);
  assert.deepEqual(linkedModels(link, models), [b, c]);
  // After another export the names end otherwise.
  const later = [made("xxs-float32-ffffffffff"), made("s-int8-bbbbbbbbbb"), made("xxs-int8-cccccccccc")];
  assert.deepEqual(linkedModels(link, later), later.slice(0, 2));
  assert.deepEqual(linkedModels(link, [...later, b]), [b], "the same one where it is still there");
});

test("a file that somebody gave the page has no link", () => {
  const given = made("file-1", {} as File);
  assert.equal(linkTo("https://h/site/?model=x", [...models, given], [given]), "https://h/site/");
});

test("names that people read", () => {
  assert.equal(variantTitle("mobilevit_xxs"), "MobileViT XXS");
  assert.equal(variantTitle("mobilevitv2_075"), "MobileViTv2 0.75");
  assert.equal(variantTitle("mobilevitv2_200"), "MobileViTv2 2");
  assert.equal(variantTitle("custom"), "custom");
});
