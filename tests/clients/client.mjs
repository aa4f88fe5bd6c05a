// A client for Node and for browsers, written from docs/protocol.md alone: it needs a socket with the interface that
// browsers have, which `ws` has too.

const LIMIT_MS = 15_000;
const OPEN = 1;

export const ALICE_AT = [52.5163, 13.3777];
export const NEAR = [52.52, 13.405];
export const NEARER = [52.518, 13.39];
export const FAR = [52.62, 13.405];

export const JSON_FRAMES = { protocol: 'nearcast.v1', encode: JSON.stringify, decode: JSON.parse, kind: 'string' };

/** Both as text, so that a failure shows them. */
export function same(came, expected, of = '') {
  const [a, b] = [came, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`expected ${b}, came ${a} ${of && JSON.stringify(of)}`);
}

const M = (1n << 64n) - 1n;

function textHash(text) {
  let h = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) h = ((h ^ BigInt(byte)) * 0x100000001b3n) & M;
  h = ((h ^ (h >> 33n)) * 0xff51afd7ed558ccdn) & M;
  h = ((h ^ (h >> 33n)) * 0xc4ceb9fe1a85ec53n) & M;
  return h ^ (h >> 33n);
}

const digest = (texts) => (texts.reduce((sum, text) => sum + textHash(text), 0n) & M).toString(16).padStart(16, '0');

/** Whether a message ends a full answer that is not provisional. */
function whole(message) {
  if (message.type === 'unchanged') return !message.provisional;
  const reset = message.type === 'nearby' && message.reset;
  return Boolean(reset) && reset.part === reset.parts && !reset.provisional;
}

/** One connection. It keeps the list as the page says. */
export class Client {
  friends = new Map();
  device = 'd';
  n = 0;
  #seen = [];
  #taken = 0;
  #wake = () => {};
  #end = null;

  constructor(socket, format) {
    this.socket = socket;
    this.format = format;
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => {
      this.#seen.push(data);
      this.#wake();
    };
    socket.onclose = ({ code, wasClean }) => {
      this.#end = { code, wasClean };
      this.#wake();
    };
    // What went wrong is in `onclose`.
    socket.onerror = () => {};
  }

  /** Waits until `ready` gives something. */
  async #until(what, ready) {
    const came = [];
    const limit = Date.now() + LIMIT_MS;
    for (;;) {
      const result = ready(came);
      if (result !== undefined) return result;
      const left = limit - Date.now();
      if (left <= 0) throw new Error(`expected ${what}, came ${came.length ? JSON.stringify(came) : 'nothing'} in time`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async opened() {
    this.socket.onopen = () => this.#wake();
    await this.#until('a connection', () => {
      if (this.#end) throw new Error(`expected a connection, came its end ${JSON.stringify(this.#end)}`);
      return this.socket.readyState === OPEN || undefined;
    });
    same([this.socket.protocol, this.socket.extensions], [this.format.protocol, '']);
    return this;
  }

  send(type, fields = {}) {
    this.socket.send(this.format.encode({ type, ...fields }));
  }

  fix([lat, lon], fields = {}) {
    this.n += 1;
    return { n: this.n, lat, lon, time: Date.now(), ...fields };
  }

  /** Says hello, and waits for the welcome, a provisional answer and the whole list. */
  async hello(at, fields = {}) {
    const position = at && { position: this.fix(at) };
    this.send('hello', { device: this.device, clock: Date.now(), ...position, ...fields });
    const welcome = await this.expect('welcome');
    const first = await this.next('a first answer', (m) => ['nearby', 'unchanged'].includes(m.type));
    same((first.reset ?? first).provisional, true, first);
    const list = await this.next('the whole list', whole);
    return { welcome, first, list };
  }

  async report(at, fields) {
    const fix = this.fix(at, fields);
    this.send('location', { ...fix, clock: Date.now(), ack: true });
    return (await this.expect('ack', { device: this.device, n: fix.n })).result;
  }

  /** The next message that passes the test. What comes before it is taken as it comes. */
  next(what, test) {
    return this.#until(what, (came) => {
      while (this.#taken < this.#seen.length) {
        const frame = this.#seen[this.#taken++];
        same(typeof frame, this.format.kind);
        const message = this.format.decode(frame);
        came.push(message);
        this.#apply(message);
        if (test(message)) return message;
      }
      if (this.#end) throw new Error(`expected ${what}, came ${JSON.stringify(came)} and the end ${JSON.stringify(this.#end)}`);
      return undefined;
    });
  }

  expect(type, fields = {}) {
    return this.next(`${type} ${JSON.stringify(fields)}`, (m) =>
      m.type === type && Object.entries(fields).every(([key, value]) => JSON.stringify(m[key]) === JSON.stringify(value)));
  }

  #apply(message) {
    if (message.type === 'nearby') {
      if (message.reset?.part === 1) this.friends.clear();
      for (const { id } of message.removals ?? []) this.friends.delete(id);
      for (const friend of message.upserts ?? []) this.friends.set(friend.id, friend);
    } else if (message.type === 'digest') {
      const mine = { count: this.friends.size, digest: digest([...this.friends.keys()]) };
      same({ count: message.count, digest: message.digest }, mine);
    } else if (message.type === 'unchanged') {
      same({ count: message.count, digest: message.digest }, this.resume());
    }
  }

  resume() {
    const text = (f) => `${f.approximate ? '~' : ''}${f.at} ${f.id} ${f.display_name}`;
    return { count: this.friends.size, digest: digest([...this.friends.values()].map(text)) };
  }

  async upsert(user, [lat, lon]) {
    await this.next(`an upsert of ${user} at ${lat}, ${lon}`, (m) =>
      m.type === 'nearby' && m.upserts?.some((u) => u.id === user && u.lat === lat && u.lon === lon));
    return this.friends.get(user);
  }

  async removal(user, reason) {
    await this.next(`the removal of ${user}, ${reason}`, (m) =>
      m.type === 'nearby' && m.removals?.some((r) => r.id === user && r.reason === reason));
    same(this.friends.has(user), false);
  }

  /** The server's end: `bye`, then a close frame. */
  async bye(code, closeCode, fields) {
    await this.expect('bye', { code, ...fields });
    same(await this.ended(), { code: closeCode, wasClean: true });
  }

  ended() {
    return this.#until('the end', () => this.#end ?? undefined);
  }

  /** The client's end: the server answers the close frame with the same code. */
  async close() {
    this.socket.close(1000);
    same(await this.ended(), { code: 1000, wasClean: true });
  }
}

/**
 * A session of two friends. `open(user, format)` connects, `step(name, check)` runs and tells one group of checks, and
 * `signOut(user)` is what the app's sign-out button does.
 */
export async function session({ alice: aliceId, bob: bobId, open, step, signOut }) {
  let alice, bob, newer, map;
  await step('the subprotocol is chosen, compression is declined', async () => {
    alice = await open(aliceId);
  });
  await step('hello, welcome, a first answer, then the list', async () => {
    const { welcome } = await alice.hello(ALICE_AT);
    same([welcome.user, welcome.role, welcome.protocol], [aliceId, 'reporting', 1]);
    const { device, n, result } = welcome.accepted;
    same([device, n, result], ['d', 1, 'published']);
    same(alice.friends.size, 0);
  });
  await step('a friend comes, moves, leaves and comes back', async () => {
    bob = await open(bobId);
    await bob.hello(NEAR);
    same([...bob.friends.keys()], [aliceId]);
    same((await alice.upsert(bobId, NEAR)).display_name, 'Bob Ä.');
    same(await bob.report(NEARER, { accuracy_m: 5.5 }), 'published');
    same((await alice.upsert(bobId, NEARER)).accuracy_m, 5.5);
    same(await bob.report(NEARER), 'thinned');
    same(await bob.report(FAR), 'published');
    await alice.removal(bobId, 'out_of_range');
    same(await bob.report(NEAR), 'published');
    await alice.upsert(bobId, NEAR);
  });
  await step('the digest that follows is that of the list', () => alice.expect('digest', { count: 1 }));
  await step('late fixes are stored, and those refused are named', async () => {
    const late = [3_600_000, 31 * 86_400_000, 1_800_000].map((age) => alice.fix(ALICE_AT, { time: Date.now() - age }));
    alice.send('locations', { clock: Date.now(), ack: true, fixes: late, id: 'late' });
    const ack = await alice.expect('ack', { re: 'late', result: 'stored', count: 2, n: late[2].n });
    same(ack.refused.map(({ n, code }) => [n, code]), [[late[1].n, 'time_out_of_range']]);
  });
  await step('one friend is asked for, muted, and comes back; sync gets the whole list', async () => {
    alice.send('subscribe', { friend: bobId, id: 'q1' });
    const { position } = await alice.expect('friend', { re: 'q1', id: bobId });
    same([position.lat, position.lon], NEAR);
    alice.send('unsubscribe', { friend: bobId });
    await alice.removal(bobId, 'muted');
    alice.send('subscribe', { friend: bobId });
    await alice.upsert(bobId, NEAR);
    alice.send('sync');
    await alice.next('a reset', (m) => m.reset !== undefined);
    same([...alice.friends.keys()], [bobId]);
  });
  await step('mistakes are answered by their codes, and the connection stays', async () => {
    alice.send('location', { n: 900, lat: 91, lon: 13, time: Date.now(), id: 'm1' });
    await alice.expect('error', { code: 'position_out_of_range', of: 'location', n: 900, re: 'm1', retry: 'never' });
    alice.send('dance', { id: 'm2' });
    await alice.expect('error', { code: 'unknown_type', re: 'm2' });
    alice.socket.send(alice.format.kind === 'string' ? new Uint8Array([0x80]) : '{}');
    await alice.expect('error', { code: alice.format.kind === 'string' ? 'not_text' : 'not_binary' });
    // Twice as many as in a second may come at once.
    for (let i = 0; i < 80; i += 1) alice.send('sync', { id: `s${i}` });
    await alice.expect('error', { code: 'too_fast', of: 'sync', retry: 'after' });
  });
  await step('a session that watches holds the same list', async () => {
    map = await open(aliceId);
    map.device = 'map';
    const { welcome } = await map.hello(undefined, { watch: true });
    same(welcome.role, 'watching');
    same(map.resume(), alice.resume());
  });
  await step('the close handshake, and the list is unchanged after it', async () => {
    const { friends, n } = alice;
    await alice.close();
    alice = await open(aliceId);
    Object.assign(alice, { friends, n });
    const { first, list } = await alice.hello(undefined, { resume: alice.resume() });
    same([first.type, list.type], ['unchanged', 'unchanged']);
  });
  await step('a newer session takes the place of the one before', async () => {
    newer = await open(aliceId);
    newer.n = alice.n;
    await newer.hello(ALICE_AT);
    await alice.bye('superseded', 4009, { retry: 'never', reconnect: false });
  });
  await step('sign-out ends every session of the user and none of the friend', async () => {
    await signOut(aliceId);
    for (const one of [newer, map]) await one.bye('signed_out', 4010, { retry: 'new_token', reconnect: false });
    await bob.close();
  });
}
