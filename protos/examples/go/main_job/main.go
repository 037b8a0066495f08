// Command main_job sends a campaign to a few users, watches it, and reads its events in two parts.
//
// It reads HERALD_SEGMENT_TARGET, HERALD_CAMPAIGN_TARGET, HERALD_TLS_CA and HERALD_TOKEN.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"herald/client"
	campaignv1 "herald/gen/campaign/v1"
	chatv1 "herald/gen/chat/v1"
	eventv1 "herald/gen/event/v1"
	segmentv1 "herald/gen/segment/v1"
)

const (
	guests = 5
	pause  = time.Second
)

// herald has the four services that the main job needs.
type herald struct {
	chat      chatv1.ChatServiceClient
	segments  segmentv1.SegmentServiceClient
	campaigns campaignv1.CampaignServiceClient
	events    eventv1.EventServiceClient
}

func newHerald(segment, campaign *grpc.ClientConn) herald {
	return herald{
		chatv1.NewChatServiceClient(segment),
		segmentv1.NewSegmentServiceClient(segment),
		campaignv1.NewCampaignServiceClient(campaign),
		eventv1.NewEventServiceClient(campaign),
	}
}

// createCampaign returns the id. Ids of the caller's own make each call one that can be repeated.
func (h herald) createCampaign(ctx context.Context, run string) (string, error) {
	role := "guest-" + run
	users := []*chatv1.User{{Id: "host-" + run, Name: "Maria"}}
	for number := range guests {
		users = append(users, &chatv1.User{
			Id: fmt.Sprintf("%s-%d", role, number), Name: fmt.Sprintf("Guest %d", number), Role: role,
		})
	}
	if _, err := h.chat.UpsertUsers(ctx, &chatv1.UpsertUsersRequest{Users: users}); err != nil {
		return "", err
	}
	filter, err := structpb.NewStruct(map[string]any{"role": role})
	if err != nil {
		return "", err
	}
	segment := &segmentv1.Segment{
		Id: "guests-" + run, Type: segmentv1.SegmentType_SEGMENT_TYPE_USER, Name: "Guests",
		Definition: &segmentv1.Segment_Filter{Filter: filter},
	}
	if _, err := h.segments.CreateSegment(ctx, &segmentv1.CreateSegmentRequest{Segment: segment}); err != nil {
		return "", err
	}
	created, err := h.campaigns.CreateCampaign(ctx, &campaignv1.CreateCampaignRequest{
		Campaign: &campaignv1.Campaign{
			Id:              "hello-" + run,
			SenderId:        users[0].Id,
			SegmentIds:      []string{segment.Id},
			MessageTemplate: &campaignv1.MessageTemplate{Text: "Hi {{ receiver.name }}"},
			CreateChannels:  true,
			ChannelTemplate: &campaignv1.ChannelTemplate{Type: "messaging"},
		},
	})
	return created.GetCampaign().GetId(), err
}

// watch prints the campaign's progress, and returns how it has ended. It outlasts a server that
// goes away.
func (h herald) watch(ctx context.Context, id string) (*campaignv1.Campaign, error) {
	var last *campaignv1.Campaign
	var token string
	for {
		stream, err := h.campaigns.WatchCampaign(
			ctx, &campaignv1.WatchCampaignRequest{Id: id, ResumeToken: token})
		for err == nil {
			var response *campaignv1.WatchCampaignResponse
			if response, err = stream.Recv(); err == nil {
				last, token = response.Campaign, response.ResumeToken
				fmt.Printf("%s %.0f%%\n", last.Status, last.GetStats().GetProgress()*100)
			}
		}
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if status.Code(err) != codes.Unavailable {
			return nil, err
		}
		time.Sleep(pause)
	}
}

// readEvents reads up to the wanted event of a campaign, and returns the ids of all, and the last
// token.
func (h herald) readEvents(ctx context.Context, id, wanted, after string) ([]string, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ids []string
	stream, err := h.events.StreamEvents(ctx, &eventv1.StreamEventsRequest{
		After: after, Types: []string{"campaign.started", wanted},
	})
	if err != nil {
		return nil, "", err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return nil, "", err
		}
		found := false
		for _, event := range response.Events {
			ids = append(ids, event.Id)
			found = found || event.Type == wanted && event.CampaignId == id
		}
		if found {
			return ids, response.Token, nil
		}
	}
}

func run(ctx context.Context) error {
	segment, err := client.Segment()
	if err != nil {
		return err
	}
	defer segment.Close()
	campaign, err := client.Campaign()
	if err != nil {
		return err
	}
	defer campaign.Close()
	h, run := newHerald(segment, campaign), rand.Text()

	id := "hello-" + run
	_, err = h.campaigns.GetCampaign(ctx, &campaignv1.GetCampaignRequest{Id: id})
	// decide by the reason, never by the text
	missing := campaignv1.ErrorReason_ERROR_REASON_CAMPAIGN_NOT_FOUND.String()
	if err != nil && client.ErrorInfo(err).Reason == missing {
		_, err = h.createCampaign(ctx, run)
	}
	if err != nil {
		return err
	}
	if _, err := h.campaigns.StartCampaign(ctx, &campaignv1.StartCampaignRequest{Id: id}); err != nil {
		return err
	}
	started, token, err := h.readEvents(ctx, id, "campaign.started", "")
	if err != nil {
		return err
	}
	last, err := h.watch(ctx, id)
	if err != nil {
		return err
	}
	// a program that stores the token with its own changes handles each event once
	completed, _, err := h.readEvents(ctx, id, "campaign.completed", token)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(completed, func(event string) bool { return slices.Contains(started, event) }) {
		return errors.New("an event came twice")
	}
	fmt.Printf("%s: %d of %d sent\n", last.Status, last.Stats.MessagesSent, guests)
	return nil
}

func main() {
	if err := run(client.WithToken(context.Background(), os.Getenv("HERALD_TOKEN"))); err != nil {
		log.Fatal(err)
	}
}
