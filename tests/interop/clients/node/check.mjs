// Makes the calls that it reads from standard input, and prints what each of them got.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = new URL("../../../../", import.meta.url);
const require = createRequire(new URL("examples/node/", root));
const grpc = require("@grpc/grpc-js");
const protobuf = require("protobufjs");
const definition = require("@grpc/proto-loader").loadSync("tokenbroker/v1/token_broker.proto", {
  includeDirs: [fileURLToPath(new URL("proto", root))],
  enums: String,
  oneofs: true,
});
const { TokenBroker } = grpc.loadPackageDefinition(definition).tokenbroker.v1;
const { Status, ErrorInfo } = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; }
`, { keepCase: true }).root.nested;

const PATIENCE = 20_000;
const { INTEROP_FOLDER, TOKEN_BROKER_ENDPOINT } = process.env;
const soon = (millis = PATIENCE) => ({ deadline: Date.now() + Number(millis) });

function connect(who) {
  const read = (name) => readFileSync(`${INTEROP_FOLDER}/${name}`);
  const credentials = grpc.credentials.createSsl(read("ca.pem"), read(`${who}.key`), read(`${who}.pem`));
  const client = new TokenBroker(new URL(TOKEN_BROKER_ENDPOINT).host, credentials);
  const call = (method) => (request, options) => promisify(client[method]).call(client, request, options);
  return { client, get: call("GetToken"), report: call("ReportRejected") };
}

function described(error) {
  if (error.code === undefined) throw error;
  const [status] = error.metadata.get("grpc-status-details-bin");
  let [reason, retry] = ["-", "-"];
  for (const { type_url, value } of status ? Status.decode(status).details : []) {
    if (type_url.endsWith("/google.rpc.RetryInfo")) retry = "retry";
    if (type_url.endsWith("/google.rpc.ErrorInfo")) {
      const info = ErrorInfo.decode(value);
      reason = info.domain === "tokenbroker" ? info.reason : `not ours: ${info.domain}`;
    }
  }
  return `${grpc.status[error.code]} ${reason} ${retry}`;
}

async function* events({ client }, destinationId, options = soon()) {
  yield* client.WatchToken({ destinationId }, options);
}

const methods = {
  async get({ get }, destinationId, argument) {
    const minValidity = argument === "-" ? undefined : { seconds: Number(argument) };
    const token = await get({ destinationId, minValidity }, soon());
    const whole = token.accessToken && token.tokenId && Number(token.expiresIn.seconds) > 0;
    return whole ? `OK ${token.tokenType}` : "incomplete";
  },
  async "get-within"({ get }, destinationId, millis) {
    await get({ destinationId }, soon(millis));
    return "OK";
  },
  async "get-for-ever"({ get }, destinationId) {
    await get({ destinationId }, {});
    return "OK";
  },
  async "get-often"({ get }, destinationId, times) {
    for (let n = 0; n < Number(times); n++) await get({ destinationId }, soon());
    return "OK";
  },
  async "get-at-once"({ get }, destinationId, times) {
    const call = () => get({ destinationId }, soon()).then(() => "OK", described);
    const answers = await Promise.all(Array.from({ length: Number(times) }, call));
    return answers.find((answer) => !answer.startsWith("DEADLINE")) ?? "OK";
  },
  async watch(broker, destinationId, count) {
    const ids = [];
    for await (const { token, unavailable } of events(broker, destinationId)) {
      if (!token) return unavailable.reason;
      ids.push(token.tokenId);
      if (ids.length === Number(count)) return `OK ${new Set(ids).size}`;
    }
  },
  async "watch-within"(broker, destinationId, millis) {
    for await (const _ of events(broker, destinationId, soon(millis))) return "an event";
    return "the end";
  },
  async "watch-trouble"(broker, destinationId) {
    for await (const { unavailable } of events(broker, destinationId)) {
      if (!unavailable) return "a token";
      return `IN_BAND ${unavailable.reason} ${unavailable.retryDelay ? "retry" : "-"}`;
    }
  },
  async report(broker, destinationId) {
    const told = async (tokenId) => {
      const { outcome } = await broker.report({ destinationId, tokenId }, soon());
      return outcome.replace("REPORT_OUTCOME_", "");
    };
    const { tokenId } = await broker.get({ destinationId }, soon());
    const outcomes = [await told(tokenId)];
    for await (const { token } of events(broker, destinationId)) {
      if (!token || token.tokenId === tokenId) continue;
      outcomes.push(await told(tokenId), await told(token.tokenId));
      return outcomes.join(" ");
    }
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, who, method, destination, argument] = line.trim().split(/\s+/);
  const broker = connect(who);
  console.log(name, await methods[method](broker, destination, argument).catch(described));
  broker.client.close();
}
