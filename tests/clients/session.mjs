// Sessions with npm's ws: JSON with the token in the subprotocol, MessagePack with the header over TLS.
import { readFileSync } from 'node:fs';
import { decode, encode } from '@msgpack/msgpack';
import WebSocket from 'ws';
import { Client, JSON_FRAMES, same, session } from './client.mjs';
import { befriend, rest, run, token, ws, wss } from './deployment.mjs';

const ca = readFileSync(process.env.NEARCAST_AUTHORITY);
const MSGPACK_FRAMES = { protocol: 'nearcast.v1.msgpack', encode: (m) => encode(m), decode, kind: 'object' };

// `ws` offers permessage-deflate by itself.
const bySubprotocol = (user) =>
  new Client(new WebSocket(ws, ['nearcast.v1', `bearer.${token(user)}`]), JSON_FRAMES).opened();
const byHeader = (user) => {
  const headers = { Authorization: `Bearer ${token(user)}` };
  return new Client(new WebSocket(wss, ['nearcast.v1.msgpack'], { headers, ca }), MSGPACK_FRAMES).opened();
};

/** The status and code of a refused upgrade. */
function refusal(address, protocols, headers) {
  const socket = new WebSocket(address, protocols, { headers, ca, handshakeTimeout: 15_000 });
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('open', () => reject(new Error('the connection was taken')));
    socket.on('unexpected-response', async (_, response) => {
      const body = await response.setEncoding('utf8').toArray();
      resolve([response.statusCode, JSON.parse(body.join('')).code]);
    });
  });
}

async function refusals(address) {
  const good = token('somebody');
  const bearer = (value) => ({ Authorization: `Bearer ${value}` });
  const expired = token('somebody', -60);
  same(await refusal(address, ['nearcast.v1']), [401, 'token_missing']);
  same(await refusal(address, [], bearer('no.jwt')), [401, 'token_malformed']);
  same(await refusal(address, [], bearer(expired)), [401, 'token_expired']);
  same(await refusal(address, ['nearcast.v1', `bearer.${expired}`]), [401, 'token_expired']);
  same(await refusal(`${address}?access_token=${good}`, [], bearer(good)), [400, 'token_in_url']);
}

/** A message in pieces, with a ping between them. */
async function pieces(client, friend) {
  await client.hello();
  const message = client.format.encode({ type: 'subscribe', friend, id: 'pieces' });
  const binary = client.format.kind !== 'string';
  const pong = new Promise((resolve) => client.socket.once('pong', (data) => resolve(data.toString())));
  client.socket.send(message.slice(0, 5), { fin: false, binary });
  client.socket.ping('between');
  client.socket.send(message.slice(5, 9), { fin: false, binary });
  client.socket.send(message.slice(9), { fin: true, binary });
  await client.expect('friend', { re: 'pieces', id: friend });
  same(await pong, 'between');
  await client.close();
}

const play = (name, address, open) => async (step) => {
  const [alice, bob] = [`ws-alice-${name}`, `ws-bob-${name}`];
  await befriend(alice, bob);
  await step('upgrades are refused with status and code', () => refusals(address));
  await step('pieces of a message with a ping between them are taken', async () => pieces(await open(bob), alice));
  const signOut = (user) => rest('POST', '/v1/me/sign-out', token(user));
  await session({ alice, bob, open, step, signOut });
};

await run('ws', {
  JSON: play('json', ws, bySubprotocol),
  'MessagePack over TLS': play('msgpack', wss, byHeader),
});
