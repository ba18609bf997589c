// A message reaches the official client and counts as delivered when it says so, through crashes of the centre.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Centre } from "./lib/countersign.mjs";
import { Site } from "./lib/site.mjs";

// A guard against a test that hangs; no assertion depends on it.
const HANGS_MS = 120_000;

let centre;
let site;

before(async () => {
  centre = await Centre.prepare({ agent: "clinic-001" });
  await centre.start();
  site = new Site(centre);
  await site.start();
});

after(async () => {
  await site?.stop();
  await centre?.remove();
});

test("a message becomes acknowledged when the client posts its acknowledgement", { timeout: HANGS_MS }, async () => {
  const id = await centre.send({ number: "7" });
  const [envelope] = await site.receives(1);
  assert.equal(envelope.id, id);
  assert.equal(envelope.type, "document.insert");
  assert.deepEqual(envelope.data, { number: "7" });
  assert.equal(await centre.acknowledged(id), "acknowledged");
});

test(
  "after the centre was killed the client gets what it had not acknowledged, in order, and nothing else",
  { timeout: HANGS_MS },
  async () => {
    const numbers = Array.from({ length: 20 }, (_, index) => index);
    site.acknowledges = ({ data }) => data.number < 10;
    const ids = [];
    for (const number of numbers) ids.push(await centre.send({ number }));
    const first = await site.receives(20);
    assert.deepEqual(first.map(({ data }) => data.number), numbers);
    for (const id of ids.slice(0, 10)) assert.equal(await centre.acknowledged(id), "acknowledged");

    site.acknowledges = () => true;
    await centre.kill();
    await centre.start();

    // What is sent last arrives last: once it is there, everything that was to come before it has come.
    const last = await centre.send({ number: 20 });
    const again = await site.receives(11);
    assert.deepEqual(again.map(({ data }) => data.number), [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    assert.deepEqual(again.map(({ id }) => id), [...ids.slice(10), last]);
    for (const id of [...ids.slice(10), last]) assert.equal(await centre.acknowledged(id), "acknowledged");
  },
);

test("what was acknowledged just before the centre was killed does not come again", { timeout: HANGS_MS }, async () => {
  for (let round = 0; round < 5; round += 1) {
    const id = await centre.send({ round });
    // The acknowledgement is answered; the centre may not have read it yet.
    const received = await site.receives(1);
    assert.deepEqual(received.map((envelope) => envelope.id), [id]);
    await centre.kill();
    await centre.start();
    assert.equal(await centre.acknowledged(id), "acknowledged");
  }
});
