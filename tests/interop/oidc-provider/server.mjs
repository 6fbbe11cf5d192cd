// An authorization server for tests/interop_oauth2.rs. It listens on a free
// loopback port, makes up all secrets and keys, prints one line of JSON that says
// how to ask it for tokens, and stops when its standard input is closed.

import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';

import Provider, { errors } from 'oidc-provider';

// Everything that Basic authentication must form-encode (RFC 6749 §2.3.1).
const AWKWARD = '+/=:%&? ~*';
const RESOURCE = 'https://api.example/orders';
const SCOPE = 'orders.read';
// The provider knows it, but grants it to no client.
const OTHER_SCOPE = 'orders.write';
const LIFETIME = 600;

const KEYS = {
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

// A client as both sides know it: what the provider registers, and what the test is told.
function withSecret(method) {
  const client_id = `shop${AWKWARD}${method}`;
  const client_secret = `${randomUUID()}${AWKWARD}`;
  return {
    registered: { client_id, client_secret, token_endpoint_auth_method: method },
    told: { client_id, client_secret, method },
  };
}

function withKey(alg) {
  const client_id = `shop-${alg}`;
  const key_id = `${alg}-1`;
  const { publicKey, privateKey } = KEYS[alg]();
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: key_id, alg, use: 'sig' };
  return {
    registered: {
      client_id,
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: alg,
      jwks: { keys: [jwk] },
    },
    told: {
      client_id,
      key_id,
      method: 'private_key_jwt',
      private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    },
  };
}

const clients = [
  withSecret('client_secret_basic'),
  withSecret('client_secret_post'),
  ...Object.keys(KEYS).map(withKey),
];

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: clients.map(({ registered }) => ({
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: SCOPE,
    ...registered,
  })),
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: Object.keys(KEYS) },
  scopes: [SCOPE, OTHER_SCOPE],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      // The resource becomes the audience, so that a test can see that it arrived.
      getResourceServerInfo: (_ctx, resource) => {
        if (resource !== RESOURCE) throw new errors.InvalidTarget();
        return { audience: resource, scope: SCOPE, accessTokenFormat: 'jwt', accessTokenTTL: LIFETIME };
      },
    },
  },
});
server.on('request', provider.callback());

process.stdin.on('close', () => process.exit(0)).resume();
console.log(
  JSON.stringify({
    token_endpoint: `${issuer}/token`,
    resource: RESOURCE,
    scope: SCOPE,
    lifetime: LIFETIME,
    clients: clients.map(({ told }) => told),
  }),
);
