package herald.example;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.ErrorInfo;
import com.herald.access.v1.AccessServiceProto;
import com.herald.campaign.v1.CampaignServiceProto;
import com.herald.chat.v1.ChatServiceProto;
import com.herald.event.v1.EventServiceProto;
import com.herald.segment.v1.SegmentServiceProto;
import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Makes the calls of a file of steps, and prints the end of each as a line of JSON. Usage: Steps
 * STEPS.json RUN, with the environment of MainJob.
 */
public final class Steps {
  private static final Map<String, FileDescriptor> FILES =
      List.of(
              AccessServiceProto.getDescriptor(),
              CampaignServiceProto.getDescriptor(),
              ChatServiceProto.getDescriptor(),
              EventServiceProto.getDescriptor(),
              SegmentServiceProto.getDescriptor())
          .stream()
          .collect(Collectors.toMap(FileDescriptor::getPackage, file -> file));

  private final Connections servers;
  private final Map<String, String> values = new HashMap<>();

  private Steps(Connections servers, String run) {
    this.servers = servers;
    values.put("run", run);
  }

  /** The text with the value of each ${name} in its place. */
  private String filledIn(String text) {
    for (var value : values.entrySet()) {
      text = text.replace("${" + value.getKey() + "}", value.getValue());
    }
    return text;
  }

  /** Makes the call of a step; adds its answers, up to the one that the step waits for. */
  private void take(JsonObject step, JsonArray answers) throws IOException {
    String call = step.get("call").getAsString();
    MethodDescriptor method = method(call);
    var request = DynamicMessage.newBuilder(method.getInputType());
    JsonFormat.parser().merge(filledIn(step.get("request").toString()), request);
    String token =
        step.has("token")
            ? filledIn(step.get("token").getAsString())
            : Connections.variable("HERALD_TOKEN", "");
    double seconds =
        step.has("seconds") ? step.get("seconds").getAsDouble() : Connections.CALL_SECONDS;
    String until = step.has("until") ? filledIn(step.get("until").getAsString()) : "";
    boolean atSegment = call.startsWith("herald.chat.") || call.startsWith("herald.segment.");
    var channel =
        ClientInterceptors.intercept(
            atSegment ? servers.segment() : servers.campaign(), Connections.withToken(token));
    var options =
        CallOptions.DEFAULT.withDeadlineAfter((long) (seconds * 1000), TimeUnit.MILLISECONDS);
    // a call ends with the context that it was made in
    try (var context = Context.current().withCancellation()) {
      var before = context.attach();
      try {
        var stream =
            ClientCalls.blockingServerStreamingCall(
                channel, grpcMethod(call, method), options, request.build());
        while (stream.hasNext()) {
          String answer = JsonFormat.printer().print(stream.next());
          answers.add(JsonParser.parseString(answer));
          if (!until.isEmpty() && answer.contains(until)) {
            return;
          }
        }
      } finally {
        context.detach(before);
      }
    }
  }

  private static MethodDescriptor method(String call) {
    String service = call.substring(0, call.indexOf('/'));
    int dot = service.lastIndexOf('.');
    return FILES
        .get(service.substring(0, dot))
        .findServiceByName(service.substring(dot + 1))
        .findMethodByName(call.substring(call.indexOf('/') + 1));
  }

  private static io.grpc.MethodDescriptor<DynamicMessage, DynamicMessage> grpcMethod(
      String call, MethodDescriptor method) {
    return io.grpc.MethodDescriptor.<DynamicMessage, DynamicMessage>newBuilder()
        // one answer is a short stream
        .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
        .setFullMethodName(call)
        .setRequestMarshaller(
            ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(method.getInputType())))
        .setResponseMarshaller(
            ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(method.getOutputType())))
        .build();
  }

  /** The end of a step; keeps the values that later steps need. */
  private JsonObject ended(JsonObject step) throws IOException {
    var end = new JsonObject();
    var answers = new JsonArray();
    int code = 0;
    var info = ErrorInfo.getDefaultInstance();
    try {
      take(step, answers);
    } catch (StatusRuntimeException error) {
      code = error.getStatus().getCode().value();
      info = Connections.errorInfo(error);
    }
    if (step.has("keep") && !answers.isEmpty()) {
      for (var kept : step.getAsJsonObject("keep").entrySet()) {
        JsonElement part = answers.get(answers.size() - 1);
        for (String name : kept.getValue().getAsString().split("\\.")) {
          part = part.getAsJsonObject().get(name);
        }
        values.put(kept.getKey(), part.getAsString());
      }
    }
    end.addProperty("code", code);
    end.addProperty("reason", info.getReason());
    end.add("metadata", new Gson().toJsonTree(info.getMetadataMap()));
    end.add("answers", answers);
    return end;
  }

  public static void main(String[] arguments) throws Exception {
    // the console's own encoding may have no ë
    var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    try (var servers = Connections.open()) {
      var steps = new Steps(servers, arguments[1]);
      String file = Files.readString(Path.of(arguments[0]));
      for (var step : JsonParser.parseString(file).getAsJsonArray()) {
        out.println(steps.ended(step.getAsJsonObject()));
      }
    }
  }
}
