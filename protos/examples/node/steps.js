// Makes the calls of a file of steps, and prints the end of each as a line of JSON.
//
// Usage: node steps.js STEPS.json RUN, with the environment of main_job.js.

import { readFileSync } from "node:fs";
import { createRegistry, fromJson, toJson } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { AccessService } from "./gen/herald/access/v1/access_service_pb.js";
import { CampaignService } from "./gen/herald/campaign/v1/campaign_service_pb.js";
import { ChatService } from "./gen/herald/chat/v1/chat_service_pb.js";
import { EventService } from "./gen/herald/event/v1/event_service_pb.js";
import { SegmentService } from "./gen/herald/segment/v1/segment_service_pb.js";
import { client, close, errorInfo } from "./herald.js";

const [file, run] = process.argv.slice(2);
const services = createRegistry(
  AccessService,
  CampaignService,
  ChatService,
  EventService,
  SegmentService,
);
const values = { run };

// The same, with the value of each ${name} in its place.
function filledIn(value) {
  let text = JSON.stringify(value);
  for (const [name, known] of Object.entries(values)) {
    text = text.replaceAll(`\${${name}}`, () => JSON.stringify(known).slice(1, -1));
  }
  return JSON.parse(text);
}

// Yields each answer as JSON, up to the one that the step waits for.
async function* answersOf(step) {
  const [serviceName, methodName] = step.call.split("/");
  const service = services.getService(serviceName);
  const method = service.methods.find((each) => each.name === methodName);
  const request = fromJson(method.input, filledIn(step.request));
  const options = {};
  if (step.seconds) options.timeoutMs = step.seconds * 1000;
  if ("token" in step) {
    const token = filledIn(step.token);
    options.headers = { authorization: token && `Bearer ${token}` };
  }
  const outcome = client(service)[method.localName](request, options);
  if (method.methodKind === "unary") {
    yield toJson(method.output, await outcome);
    return;
  }
  const until = filledIn(step.until ?? "");
  for await (const response of outcome) {
    const answer = toJson(method.output, response);
    yield answer;
    if (until && JSON.stringify(answer).includes(until)) return;
  }
}

for (const step of JSON.parse(readFileSync(file, "utf8"))) {
  const end = { code: 0, reason: "", metadata: {}, answers: [] };
  try {
    for await (const answer of answersOf(step)) end.answers.push(answer);
  } catch (error) {
    const info = errorInfo(error);
    end.code = ConnectError.from(error).code;
    end.reason = info?.reason ?? "";
    end.metadata = info?.metadata ?? {};
  }
  if (end.answers.length > 0) {
    for (const [name, path] of Object.entries(step.keep ?? {})) {
      values[name] = path.split(".").reduce((part, key) => part?.[key], end.answers.at(-1)) ?? "";
    }
  }
  console.log(JSON.stringify(end));
}
close();
