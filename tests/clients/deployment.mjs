// What the clients in Node know of the deployment: its addresses, how it signs tokens, and who prints the sums.
import { createHmac } from 'node:crypto';

export const { NEARCAST_API: api, NEARCAST_WS: ws, NEARCAST_WSS: wss } = process.env;

/** A token as the deployment's identity provider would sign it, with HS256. */
export function token(user, lifeS = 3600) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: user, aud: 'nearcast', iat: Math.min(now, now + lifeS - 60), exp: now + lifeS };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', process.env.NEARCAST_AUTH__HS256_SECRET).update(signed).digest('base64url')}`;
}

export async function rest(method, path, userToken, body) {
  const answer = await fetch(api + path, {
    method,
    headers: { Authorization: `Bearer ${userToken}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(15_000),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
}

export async function befriend(alice, bob) {
  for (const [user, name] of [[alice, 'Alice'], [bob, 'Bob Ä.']]) {
    await rest('PUT', '/v1/me', token(user), { display_name: name });
  }
  await rest('POST', `/v1/friends/${bob}/request`, token(alice));
  await rest('POST', `/v1/friends/${alice}/accept`, token(bob));
}

/** Runs sessions, each of steps that print their line; what fails ends its session. The last line is the sum. */
export async function run(client, sessions) {
  let [passed, failed] = [0, 0];
  const tell = (name) => {
    passed += 1;
    console.log(`ok      ${client}: ${name}`);
  };
  for (const [name, play] of Object.entries(sessions)) {
    let doing = 'start';
    const step = async (what, check) => {
      doing = what;
      await check();
      tell(`${name}: ${what}`);
    };
    try {
      await play(step);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${client}: ${name}: ${doing}: ${error.stack ?? error}`);
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed > 0 ? 1 : 0);
}
