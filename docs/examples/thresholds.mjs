// Acts on each threshold event once: node thresholds.mjs BROKERS GROUP [TOPIC]
//
// npm install @confluentinc/kafka-javascript
//
// What is done with an event is committed behind it, so after a crash the last events come again:
// their ids tell that they were acted upon. Here those are kept in a file; a service keeps them
// where it keeps what it did.

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import confluent from "@confluentinc/kafka-javascript";

const [brokers, group, topic = "meterstream.thresholds"] = process.argv.slice(2);
const file = `${group}.ids`;
const known = new Set(existsSync(file) ? readFileSync(file, "utf8").split("\n") : []);

// May be called again for an event that came just before a crash.
function act(event) {
  const { team_id, organisation_id, limit_id = "", used = "" } = event.data;
  console.log(event.type.replace("meterstream.", ""), team_id ?? organisation_id, limit_id, used);
}

const consumer = new confluent.KafkaJS.Kafka({
  kafkaJS: { brokers: brokers.split(",") },
}).consumer({
  "fetch.wait.max.ms": 50, // brokers may keep a reader of committed data waiting
  kafkaJS: {
    groupId: group,
    fromBeginning: true,
    autoCommit: false,
    readUncommitted: false, // events of a publisher that was killed are not delivered
  },
});

await consumer.connect();
await consumer.subscribe({ topics: [topic] });
await consumer.run({
  eachMessage: async ({ topic, partition, message }) => {
    const event = JSON.parse(message.value.toString());
    if (!known.has(event.id)) {
      act(event);
      appendFileSync(file, `${event.id}\n`);
      known.add(event.id);
    }
    const offset = (BigInt(message.offset) + 1n).toString();
    await consumer.commitOffsets([{ topic, partition, offset }]);
  },
});
