// A site that has nothing of ours: the official client, one handler, one fetch.

import { HubConnectionBuilder, LogLevel } from "@microsoft/signalr";

/** Connected to `centre` as its agent; remembers every document in the order it came. */
export class Site {
  #connection;
  #received = [];
  #handled = 0;
  #arrived = () => {};
  /** Decides which documents are acknowledged. */
  acknowledges = () => true;

  constructor(centre) {
    this.centre = centre;
    this.#connection = new HubConnectionBuilder()
      .withUrl(`${centre.url}/hub?ready=auto`, { accessTokenFactory: () => centre.token(centre.agent) })
      .withAutomaticReconnect({ nextRetryDelayInMilliseconds: () => 50 })
      .configureLogging(LogLevel.None)
      .build();
    this.#connection.on("document.insert", (envelope) => this.#take(envelope));
  }

  start() {
    return this.#connection.start();
  }

  stop() {
    return this.#connection.stop();
  }

  async #take(envelope) {
    this.#received.push(envelope);
    if (this.acknowledges(envelope)) await this.acknowledge(envelope);
    this.#handled += 1;
    this.#arrived();
  }

  async acknowledge({ id, attempt, ack_url }) {
    const headers = {
      authorization: `Bearer ${await this.centre.token(this.centre.agent)}`,
      "content-type": "application/json",
    };
    const body = JSON.stringify({ acks: [{ message_id: id, stage: "acknowledged", attempt }] });
    const answer = await fetch(ack_url, { method: "POST", headers, body });
    if (answer.status !== 200) throw new Error(`not recorded: ${answer.status} ${await answer.text()}`);
  }

  /** Waits until at least `count` documents have come and are done with; gives all since the last call. */
  async receives(count) {
    while (this.#handled < Math.max(count, this.#received.length)) {
      await new Promise((arrived) => (this.#arrived = arrived));
    }
    this.#handled = 0;
    return this.#received.splice(0);
  }
}
