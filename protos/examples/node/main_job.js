// Sends a campaign to a few users, watches it, and reads its events in two parts.
//
// Usage: node main_job.js, with HERALD_SEGMENT_TARGET, HERALD_CAMPAIGN_TARGET, HERALD_TLS_CA and
// HERALD_TOKEN.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { CampaignStatus } from "./gen/herald/campaign/v1/campaign_pb.js";
import { CampaignService } from "./gen/herald/campaign/v1/campaign_service_pb.js";
import { ErrorReason, ErrorReasonSchema } from "./gen/herald/campaign/v1/error_reason_pb.js";
import { ChatService } from "./gen/herald/chat/v1/chat_service_pb.js";
import { EventService } from "./gen/herald/event/v1/event_service_pb.js";
import { SegmentType } from "./gen/herald/segment/v1/segment_pb.js";
import { SegmentService } from "./gen/herald/segment/v1/segment_service_pb.js";
import { client, close, errorInfo } from "./herald.js";

const GUESTS = 5;
const PAUSE_MILLISECONDS = 1_000;
const chat = client(ChatService);
const segments = client(SegmentService);
const campaigns = client(CampaignService);
const events = client(EventService);

// Returns the id. Ids of the caller's own make each call one that can be repeated.
async function createCampaign(run) {
  const host = { id: `host-${run}`, name: "Maria" };
  const role = `guest-${run}`;
  const guests = Array.from({ length: GUESTS }, (_, number) => ({
    id: `${role}-${number}`,
    name: `Guest ${number}`,
    role,
  }));
  await chat.upsertUsers({ users: [host, ...guests] });
  const { segment } = await segments.createSegment({
    segment: {
      id: `guests-${run}`,
      type: SegmentType.USER,
      name: "Guests",
      definition: { case: "filter", value: { role } },
    },
  });
  const { campaign } = await campaigns.createCampaign({
    campaign: {
      id: `hello-${run}`,
      senderId: host.id,
      segmentIds: [segment.id],
      messageTemplate: { text: "Hi {{ receiver.name }}" },
      createChannels: true,
      channelTemplate: { type: "messaging" },
    },
  });
  return campaign.id;
}

// Prints the campaign's progress; returns how it has ended. Outlasts a server that goes away.
async function watch(id) {
  let last;
  let resumeToken = "";
  for (;;) {
    try {
      // a stream has no deadline
      for await (const response of campaigns.watchCampaign({ id, resumeToken }, { timeoutMs: 0 })) {
        last = response.campaign;
        resumeToken = response.resumeToken;
        console.log(CampaignStatus[last.status], `${Math.round((last.stats?.progress ?? 0) * 100)}%`);
      }
      return last;
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unavailable) throw error;
      await setTimeout(PAUSE_MILLISECONDS);
    }
  }
}

// Reads up to the wanted event of a campaign; returns the ids of all, and the last token.
async function readEvents(id, wanted, after) {
  const ids = [];
  const request = { after, types: ["campaign.started", wanted] };
  for await (const response of events.streamEvents(request, { timeoutMs: 0 })) {
    after = response.token;
    ids.push(...response.events.map((event) => event.id));
    // leaving the loop cancels the call
    if (response.events.some((event) => event.type === wanted && event.campaignId === id)) break;
  }
  return [ids, after];
}

async function main() {
  const run = randomUUID().slice(0, 13);
  let id;
  try {
    await campaigns.getCampaign({ id: `hello-${run}` });
  } catch (error) {
    // decide by the reason, never by the text
    const missing = ErrorReasonSchema.value[ErrorReason.CAMPAIGN_NOT_FOUND].name;
    if (errorInfo(error)?.reason !== missing) throw error;
    id = await createCampaign(run);
  }
  await campaigns.startCampaign({ id });
  const [started, token] = await readEvents(id, "campaign.started", "");
  const last = await watch(id);
  // a program that stores the token with its own changes handles each event once
  const [completed] = await readEvents(id, "campaign.completed", token);
  assert.deepEqual(completed.filter((event) => started.includes(event)), []);
  console.log(`CAMPAIGN_STATUS_${CampaignStatus[last.status]}: ${last.stats.messagesSent} of ${GUESTS} sent`);
}

try {
  await main();
} finally {
  close();
}
