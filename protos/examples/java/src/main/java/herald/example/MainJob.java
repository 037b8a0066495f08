package herald.example;

import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import com.herald.campaign.v1.Campaign;
import com.herald.campaign.v1.CampaignServiceGrpc;
import com.herald.campaign.v1.CampaignServiceGrpc.CampaignServiceBlockingStub;
import com.herald.campaign.v1.ChannelTemplate;
import com.herald.campaign.v1.CreateCampaignRequest;
import com.herald.campaign.v1.ErrorReason;
import com.herald.campaign.v1.GetCampaignRequest;
import com.herald.campaign.v1.MessageTemplate;
import com.herald.campaign.v1.StartCampaignRequest;
import com.herald.campaign.v1.WatchCampaignRequest;
import com.herald.chat.v1.ChatServiceGrpc;
import com.herald.chat.v1.ChatServiceGrpc.ChatServiceBlockingStub;
import com.herald.chat.v1.UpsertUsersRequest;
import com.herald.chat.v1.User;
import com.herald.event.v1.EventServiceGrpc;
import com.herald.event.v1.EventServiceGrpc.EventServiceBlockingStub;
import com.herald.event.v1.StreamEventsRequest;
import com.herald.segment.v1.CreateSegmentRequest;
import com.herald.segment.v1.Segment;
import com.herald.segment.v1.SegmentServiceGrpc;
import com.herald.segment.v1.SegmentServiceGrpc.SegmentServiceBlockingStub;
import com.herald.segment.v1.SegmentType;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.UUID;

/**
 * Sends a campaign to a few users, watches it, and reads its events in two parts. Reads
 * HERALD_SEGMENT_TARGET, HERALD_CAMPAIGN_TARGET, HERALD_TLS_CA and HERALD_TOKEN.
 */
public final class MainJob {
  private static final int GUESTS = 5;
  private static final long PAUSE_MILLISECONDS = 1_000;

  private final ChatServiceBlockingStub chat;
  private final SegmentServiceBlockingStub segments;
  private final CampaignServiceBlockingStub campaigns;
  private final EventServiceBlockingStub events;

  /** The ids of the events that were read, and the token to go on with. */
  private record Part(List<String> ids, String token) {}

  private MainJob(Connections servers) {
    var token = Connections.withToken(Connections.variable("HERALD_TOKEN", ""));
    var deadline = Connections.withDeadline();
    chat = ChatServiceGrpc.newBlockingStub(servers.segment()).withInterceptors(token, deadline);
    segments =
        SegmentServiceGrpc.newBlockingStub(servers.segment()).withInterceptors(token, deadline);
    campaigns =
        CampaignServiceGrpc.newBlockingStub(servers.campaign()).withInterceptors(token, deadline);
    events = EventServiceGrpc.newBlockingStub(servers.campaign()).withInterceptors(token, deadline);
  }

  /** Ids of the caller's own make each call one that can be repeated. */
  private void createCampaign(String id, String run) {
    String role = "guest-" + run;
    var host = User.newBuilder().setId("host-" + run).setName("Maria").build();
    var users = UpsertUsersRequest.newBuilder().addUsers(host);
    for (int number = 0; number < GUESTS; number++) {
      users.addUsers(
          User.newBuilder().setId(role + "-" + number).setName("Guest " + number).setRole(role));
    }
    chat.upsertUsers(users.build());
    var filter =
        Struct.newBuilder().putFields("role", Value.newBuilder().setStringValue(role).build());
    var segment =
        Segment.newBuilder()
            .setId("guests-" + run)
            .setType(SegmentType.SEGMENT_TYPE_USER)
            .setName("Guests")
            .setFilter(filter)
            .build();
    segments.createSegment(CreateSegmentRequest.newBuilder().setSegment(segment).build());
    var campaign =
        Campaign.newBuilder()
            .setId(id)
            .setSenderId(host.getId())
            .addSegmentIds(segment.getId())
            .setMessageTemplate(MessageTemplate.newBuilder().setText("Hi {{ receiver.name }}"))
            .setCreateChannels(true)
            .setChannelTemplate(ChannelTemplate.newBuilder().setType("messaging"));
    campaigns.createCampaign(CreateCampaignRequest.newBuilder().setCampaign(campaign).build());
  }

  /** Prints the campaign's progress; returns how it has ended. Outlasts a server that goes away. */
  private Campaign watch(String id) throws InterruptedException {
    var last = Campaign.getDefaultInstance();
    String token = "";
    while (true) {
      var request = WatchCampaignRequest.newBuilder().setId(id).setResumeToken(token).build();
      try {
        var stream = campaigns.watchCampaign(request);
        while (stream.hasNext()) {
          var response = stream.next();
          last = response.getCampaign();
          token = response.getResumeToken();
          System.out.printf(
              "%s %.0f%%%n", last.getStatus(), last.getStats().getProgress() * 100);
        }
        return last;
      } catch (StatusRuntimeException error) {
        if (error.getStatus().getCode() != Status.Code.UNAVAILABLE) {
          throw error;
        }
        Thread.sleep(PAUSE_MILLISECONDS);
      }
    }
  }

  /** Reads up to the wanted event of a campaign. */
  private Part readEvents(String id, String wanted, String after) {
    var ids = new ArrayList<String>();
    var request =
        StreamEventsRequest.newBuilder()
            .setAfter(after)
            .addTypes("campaign.started")
            .addTypes(wanted)
            .build();
    // a call ends with the context that it was made in
    try (var context = Context.current().withCancellation()) {
      var before = context.attach();
      try {
        var stream = events.streamEvents(request);
        while (stream.hasNext()) {
          var response = stream.next();
          boolean found = false;
          for (var event : response.getEventsList()) {
            ids.add(event.getId());
            found |= event.getType().equals(wanted) && event.getCampaignId().equals(id);
          }
          if (found) {
            return new Part(ids, response.getToken());
          }
        }
      } finally {
        context.detach(before);
      }
    }
    throw new IllegalStateException("the stream ended without " + wanted);
  }

  private void run() throws InterruptedException {
    String run = UUID.randomUUID().toString();
    String id = "hello-" + run;
    try {
      campaigns.getCampaign(GetCampaignRequest.newBuilder().setId(id).build());
    } catch (StatusRuntimeException error) {
      // decide by the reason, never by the text
      String missing = ErrorReason.ERROR_REASON_CAMPAIGN_NOT_FOUND.name();
      if (!Connections.errorInfo(error).getReason().equals(missing)) {
        throw error;
      }
      createCampaign(id, run);
    }
    campaigns.startCampaign(StartCampaignRequest.newBuilder().setId(id).build());
    var started = readEvents(id, "campaign.started", "");
    var last = watch(id);
    // a program that stores the token with its own changes handles each event once
    var completed = readEvents(id, "campaign.completed", started.token());
    if (!Collections.disjoint(started.ids(), completed.ids())) {
      throw new IllegalStateException("an event came twice");
    }
    System.out.printf(
        "%s: %d of %d sent%n", last.getStatus(), last.getStats().getMessagesSent(), GUESTS);
  }

  public static void main(String[] arguments) throws Exception {
    try (var servers = Connections.open()) {
      new MainJob(servers).run();
    }
  }
}
