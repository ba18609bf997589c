// Starts the product as an operator does: a configuration file, one process, ports of its own, an empty store.
//
// Everything that depends on the command line and on the configuration stands in this file.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const binary = process.env.COUNTERSIGN_BIN;
if (!binary) throw new Error("COUNTERSIGN_BIN names no binary: run `cargo xtask e2e`");

/** A centre over a store that outlives its process, so that it can be killed and started again. */
export class Centre {
  static async prepare({ agent }) {
    const home = await mkdtemp(join(tmpdir(), "countersign-official-"));
    const [centre, acks, token] = await freePorts(3);
    const self = new Centre();
    Object.assign(self, { home, agent, process: null, said: "" });
    self.url = `http://127.0.0.1:${centre}`;
    self.tokenUrl = `http://127.0.0.1:${token}/oauth2/token`;
    self.ready = [`${self.url}/readyz`, `http://127.0.0.1:${acks}/readyz`, `http://127.0.0.1:${token}/healthz`];
    await self.#configure({ centre, acks, token });
    return self;
  }

  async #configure({ centre, acks, token }) {
    this.config = join(this.home, "countersign.toml");
    await promisify(execFile)(binary, ["config", "init", "--out", this.home, "--agent", this.agent]);
    this.environment = {
      ...process.env,
      COUNTERSIGN_HUB__LISTEN: `127.0.0.1:${centre}`,
      COUNTERSIGN_ACKS__LISTEN: `127.0.0.1:${acks}`,
      COUNTERSIGN_TOKEN__LISTEN: `127.0.0.1:${token}`,
    };
  }

  /** Starts the process and waits until it answers. */
  async start() {
    const words = ["serve", "--config", this.config, "--roles", "api,hub,acks,token"];
    this.process = spawn(binary, words, { cwd: this.home, env: this.environment, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.on("data", (text) => (this.said += text));
    }
    for (const url of this.ready) await this.#answers(url);
  }

  async #answers(url) {
    while (this.process.exitCode === null) {
      const answer = await fetch(url).catch(() => null);
      if (answer?.ok) return;
      await new Promise((done) => setTimeout(done, 20));
    }
    throw new Error(`the centre ended instead of starting:\n${this.said}`);
  }

  /** Ends the process as a power cut would: nothing is told, nothing is flushed. */
  async kill() {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode) return;
    const ended = once(this.process, "exit");
    this.process.kill("SIGKILL");
    await ended;
  }

  async remove() {
    await this.kill();
    await rm(this.home, { recursive: true, force: true });
  }

  /** A fresh token from the token service, by client credentials. */
  async token(client) {
    const secret = await this.#secret(client);
    const body = new URLSearchParams({ grant_type: "client_credentials" });
    const authorization = `Basic ${Buffer.from(`${client}:${secret}`).toString("base64")}`;
    const answer = await fetch(this.tokenUrl, { method: "POST", headers: { authorization }, body });
    if (!answer.ok) throw new Error(`no token for ${client}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()).access_token;
  }

  async #secret(client) {
    return (await readFile(join(this.home, "secrets", `${client}.secret`), "utf8")).trim();
  }

  async #authorized(path, request = {}) {
    const headers = { authorization: `Bearer ${await this.token("sender")}`, "content-type": "application/json" };
    return fetch(this.url + path, { ...request, headers });
  }

  /** Sends one document to the agent; the id of the accepted message. */
  async send(data) {
    const body = JSON.stringify({ to: { agent: this.agent }, type: "document.insert", data });
    const answer = await this.#authorized("/v1/messages", { method: "POST", body });
    if (answer.status !== 202) throw new Error(`not accepted: ${answer.status} ${await answer.text()}`);
    return (await answer.json()).id;
  }

  /** The state that the message has reached when it is acknowledged, or when the wait is over. */
  async acknowledged(id) {
    const answer = await this.#authorized(`/v1/messages/${id}?wait=acknowledged&timeout=30s`);
    return (await answer.json()).state;
  }
}

async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await once(server.listen(0, "127.0.0.1"), "listening");
      return server;
    }),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}
