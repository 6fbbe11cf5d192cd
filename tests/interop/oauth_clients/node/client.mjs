// Gets a token with openid-client, which looks up the token endpoint by itself.
import { readFileSync, writeFileSync } from 'node:fs';
import * as client from 'openid-client';
import { Agent, fetch } from 'undici';

const { TOKEN_BROKER_ENDPOINT, TOKEN_BROKER_CA, TOKEN_BROKER_CERT, TOKEN_BROKER_KEY } = process.env;
const read = (path) => readFileSync(path, 'utf8');
const dispatcher = new Agent({
  connect: {
    ca: read(TOKEN_BROKER_CA),
    cert: read(TOKEN_BROKER_CERT),
    key: read(TOKEN_BROKER_KEY),
  },
});
const withCertificate = (url, options) => fetch(url, { ...options, dispatcher });

const config = await client.discovery(
  new URL(TOKEN_BROKER_ENDPOINT),
  'whoever',
  undefined,
  client.TlsClientAuth(),
  { algorithm: 'oauth2', [client.customFetch]: withCertificate },
);
const answer = await client.clientCredentialsGrant(config, {
  resource: `urn:tokenbroker:${process.env.AUDIENCE}`,
});
const left = answer.expiresIn();
if (!(left > 0 && left <= 3600)) throw new Error(`it expires in ${left}`);

const refused = await client
  .clientCredentialsGrant(config, { resource: 'urn:tokenbroker:somebody-elses' })
  .then(() => 'a token', (error) => error.error);
if (refused !== 'invalid_target') throw new Error(`${refused} instead of invalid_target`);

writeFileSync(process.env.TOKEN_FILE, answer.access_token);
console.log(`a token of ${answer.access_token.length} characters`);
await dispatcher.close();
