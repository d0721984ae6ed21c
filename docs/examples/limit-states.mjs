// Knows which limits block: node limit-states.mjs BROKERS [TOPIC] prints what changes.
//
// npm install @confluentinc/kafka-javascript

import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";

// Where limits stand, as the records of limit-states tell it.
export class LimitStates {
  states = new Map(); // by key: ["team",team_id,limit_id] or ["organisation",...] as JSON
  clocks = new Map(); // by the key of their heartbeat, up to which moment usage was counted
  #asOf = new Map();

  // Takes a record, unless a newer one was taken for its key.
  take(key, value) {
    if (value === null) {
      this.states.delete(key);
      return;
    }
    const told = JSON.parse(value);
    const { events_topic_id: of, generation, journal_offset } = told.as_of;
    const last = this.#asOf.get(key);
    if (
      last?.of === of &&
      (generation < last.generation ||
        (generation === last.generation && journal_offset < last.journal_offset))
    ) {
      return;
    }
    this.#asOf.set(key, { of, generation, journal_offset });
    if (JSON.parse(key)[0] === "heartbeat") {
      this.clocks.set(key, Date.parse(told.clock));
    } else {
      this.states.set(key, told);
    }
  }

  // The limits that admit nothing more of a team now: its own, and those of the organisations above
  // it, which the catalog tells.
  blocking(teamId, organisationIds = [], now = Date.now()) {
    return [...this.states.values()]
      .filter((state) => state.team_id === teamId || organisationIds.includes(state.organisation_id))
      .filter((state) => state.state === "blocked")
      .filter((state) => !state.window_end || Date.parse(state.window_end) > now)
      .map((state) => state.limit_id);
  }

  // How old the oldest knowledge is. Past your bound: admit or refuse, as you chose.
  ageMs(now = Date.now()) {
    if (this.clocks.size === 0) return Infinity;
    return Math.max(...[...this.clocks.values()].map((clock) => now - clock));
  }
}

async function main(brokers, topic = "meterstream.limit-states") {
  const { default: confluent } = await import("@confluentinc/kafka-javascript");
  const consumer = new confluent.KafkaJS.Kafka({
    kafkaJS: { brokers: brokers.split(",") },
  }).consumer({
    "fetch.wait.max.ms": 50, // brokers may keep a reader of committed data waiting
    kafkaJS: {
      groupId: `limit-states-${randomUUID()}`, // all partitions, from their beginnings
      fromBeginning: true,
      autoCommit: false,
      readUncommitted: false,
    },
  });
  const known = new LimitStates();
  await consumer.connect();
  await consumer.subscribe({ topics: [topic] });
  await consumer.run({
    eachMessage: async ({ message }) => {
      const key = message.key.toString();
      known.take(key, message.value === null ? null : message.value.toString());
      const state = known.states.get(key);
      if (state || message.value === null) {
        console.log(key, state?.state ?? "removed", state?.used ?? "");
      }
    },
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(...process.argv.slice(2));
}
