// Tokens from a token broker, and a fetch that uses them.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const PATIENCE = 10_000; // milliseconds for everything that one token takes

const proto = fileURLToPath(new URL("../../proto", import.meta.url));
const definition = protoLoader.loadSync("tokenbroker/v1/token_broker.proto", {
  includeDirs: [proto],
  enums: String,
  oneofs: true,
});
const { TokenBroker } = grpc.loadPackageDefinition(definition).tokenbroker.v1;

// What of google/rpc/status.proto and google/rpc/error_details.proto is read here.
const { Status, RetryInfo } = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`, { keepCase: true }).root.nested;

/** The tokens of one destination. */
export class Broker {
  #client;
  #destination;

  constructor(destination, env = process.env) {
    const credentials = grpc.credentials.createSsl(
      readFileSync(env.TOKEN_BROKER_CA),
      readFileSync(env.TOKEN_BROKER_KEY),
      readFileSync(env.TOKEN_BROKER_CERT),
    );
    this.#client = new TokenBroker(new URL(env.TOKEN_BROKER_ENDPOINT).host, credentials);
    this.#destination = { destinationId: destination };
  }

  /** A token that is valid now. The broker is the cache: ask for every call. */
  async token() {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      try {
        return await this.#call("GetToken", this.#destination, deadline);
      } catch (error) {
        const delay = retryDelay(error);
        if (delay === undefined || Date.now() + delay >= deadline) throw error;
        await sleep(delay);
      }
    }
  }

  /** Reports a token that the API answered with 401, and waits for the next one. */
  async successor(rejected) {
    const deadline = Date.now() + PATIENCE;
    const report = { ...this.#destination, tokenId: rejected.tokenId };
    const { outcome } = await this.#call("ReportRejected", report, deadline);
    if (outcome === "REPORT_OUTCOME_IGNORED_RATE") return undefined;
    const stream = this.#client.WatchToken(this.#destination, { deadline });
    // Leaving the loop cancels the stream, which is no error to speak of.
    stream.on("error", () => {});
    for await (const { token } of stream) {
      if (token && token.tokenId !== rejected.tokenId) return token;
    }
  }

  close() {
    this.#client.close();
  }

  #call(method, request, deadline) {
    return promisify(this.#client[method]).call(this.#client, request, { deadline });
  }
}

/** When trying again can help, in milliseconds; undefined if it cannot. */
function retryDelay(error) {
  const [status] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const details = status ? Status.decode(status).details : [];
  const retry = details.find(({ type_url }) => type_url.endsWith("/google.rpc.RetryInfo"));
  if (!retry) return undefined;
  const { seconds, nanos } = RetryInfo.decode(retry.value).retry_delay;
  return Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
}

/** A fetch that presents the broker's tokens, and tries once more after a 401. */
export function brokerFetch(broker) {
  return async (url, options = {}) => {
    const send = ({ tokenType, accessToken }) => {
      const headers = new Headers(options.headers);
      headers.set("authorization", `${tokenType} ${accessToken}`);
      return fetch(url, { ...options, headers });
    };
    const token = await broker.token();
    const response = await send(token);
    if (response.status !== 401) return response;
    const successor = await broker.successor(token).catch(() => undefined);
    // Without a successor, or with a stream for a body, the API's own answer has to do.
    if (!successor || options.body?.[Symbol.asyncIterator]) return response;
    await response.body?.cancel();
    return send(successor);
  };
}
