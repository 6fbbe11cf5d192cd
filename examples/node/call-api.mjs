// Calls an API with a token of the broker: node call-api.mjs DESTINATION URL

import { Broker, brokerFetch } from "./token-broker.mjs";

const [destination, url] = process.argv.slice(2);
const broker = new Broker(destination);
const response = await brokerFetch(broker)(url);
console.log(response.status, await response.text());
broker.close();
process.exitCode = response.ok ? 0 : 1;
