// How the examples reach the servers: addresses, CA and token come from the environment.

import { readFileSync } from "node:fs";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

const CALL_MILLISECONDS = 30_000;

// Gives each call the token, unless it has its own. An empty one means a call without any.
const withToken = (next) => async (request) => {
  const own = request.header.get("authorization");
  if (own === null && process.env.HERALD_TOKEN) {
    request.header.set("authorization", `Bearer ${process.env.HERALD_TOKEN}`);
  } else if (own === "") {
    request.header.delete("authorization");
  }
  return next(request);
};

const sessions = [];

// A transport to the address that the variable names, with TLS if HERALD_TLS_CA is set.
function transport(variable, address) {
  const ca = process.env.HERALD_TLS_CA;
  const baseUrl = `${ca ? "https" : "http"}://${process.env[variable] ?? address}`;
  // a server that is frozen is left after 8 s
  const sessionManager = new Http2SessionManager(
    baseUrl,
    { pingIntervalMs: 4_000, pingTimeoutMs: 4_000 },
    ca ? { ca: readFileSync(ca) } : {},
  );
  sessions.push(sessionManager);
  return createGrpcTransport({
    baseUrl,
    sessionManager,
    defaultTimeoutMs: CALL_MILLISECONDS,
    interceptors: [withToken],
  });
}

const toSegment = transport("HERALD_SEGMENT_TARGET", "127.0.0.1:50051");
const toCampaign = transport("HERALD_CAMPAIGN_TARGET", "127.0.0.1:50052");

// A client of a service, at the server that has it.
export function client(service) {
  const onSegment = /^herald\.(chat|segment)\./.test(service.typeName);
  return createClient(service, onSegment ? toSegment : toCampaign);
}

// Ends the connections, so that the program can end.
export function close() {
  for (const session of sessions) session.abort();
}

// The google.rpc.ErrorInfo of an error; undefined for gRPC's own errors.
export function errorInfo(error) {
  return ConnectError.from(error).findDetails(ErrorInfoSchema)[0];
}
