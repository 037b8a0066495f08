//! Sends a campaign to a few users, watches it, and reads its events in two parts.
//!
//! It reads HERALD_SEGMENT_TARGET, HERALD_CAMPAIGN_TARGET, HERALD_TLS_CA and HERALD_TOKEN.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use herald_example::herald::campaign::v1::{
    Campaign, ChannelTemplate, CreateCampaignRequest, ErrorReason, GetCampaignRequest,
    MessageTemplate, StartCampaignRequest, WatchCampaignRequest,
    campaign_service_client::CampaignServiceClient,
};
use herald_example::herald::chat::v1::{
    UpsertUsersRequest, User, chat_service_client::ChatServiceClient,
};
use herald_example::herald::event::v1::{
    StreamEventsRequest, event_service_client::EventServiceClient,
};
use herald_example::herald::segment::v1::{
    CreateSegmentRequest, Segment, SegmentType, segment::Definition,
    segment_service_client::SegmentServiceClient,
};
use herald_example::{CALL_TIME, campaign_channel, error_info, segment_channel, token, with_token};
use prost_types::{Struct, Value, value::Kind};
use tonic::{Code, Request, Status, transport::Channel};

type Outcome<T> = Result<T, Box<dyn Error>>;

const GUESTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

fn is_unavailable(error: &(dyn Error + 'static)) -> bool {
    let status = error.downcast_ref::<Status>();
    status.is_some_and(|status| status.code() == Code::Unavailable)
}

/// The four services that the main job needs.
struct Herald {
    chat: ChatServiceClient<Channel>,
    segments: SegmentServiceClient<Channel>,
    campaigns: CampaignServiceClient<Channel>,
    events: EventServiceClient<Channel>,
}

/// A unary call, with the token and a deadline.
fn call<T>(message: T) -> Outcome<Request<T>> {
    let mut request = with_token(message, &token())?;
    request.set_timeout(CALL_TIME);
    Ok(request)
}

/// A stream, with the token and no deadline.
fn stream<T>(message: T) -> Outcome<Request<T>> {
    Ok(with_token(message, &token())?)
}

impl Herald {
    async fn connect() -> Outcome<Self> {
        let (segment, campaign) = (segment_channel().await?, campaign_channel().await?);
        Ok(Self {
            chat: ChatServiceClient::new(segment.clone()),
            segments: SegmentServiceClient::new(segment),
            campaigns: CampaignServiceClient::new(campaign.clone()),
            events: EventServiceClient::new(campaign),
        })
    }

    /// Ids of the caller's own make each call one that can be repeated.
    async fn create_campaign(&mut self, id: &str, run: &str) -> Outcome<()> {
        let role = format!("guest-{run}");
        let host = format!("host-{run}");
        let mut users = vec![User {
            id: host.clone(),
            name: "Maria".into(),
            ..Default::default()
        }];
        users.extend((0..GUESTS).map(|number| User {
            id: format!("{role}-{number}"),
            name: format!("Guest {number}"),
            role: role.clone(),
            ..Default::default()
        }));
        let request = UpsertUsersRequest {
            users,
            ..Default::default()
        };
        self.chat.upsert_users(call(request)?).await?;

        let filter = Struct {
            fields: [(
                "role".into(),
                Value {
                    kind: Some(Kind::StringValue(role)),
                },
            )]
            .into(),
        };
        let segment = Segment {
            id: format!("guests-{run}"),
            r#type: SegmentType::User.into(),
            name: "Guests".into(),
            definition: Some(Definition::Filter(filter)),
            ..Default::default()
        };
        let request = CreateSegmentRequest {
            segment: Some(segment),
        };
        self.segments.create_segment(call(request)?).await?;

        let campaign = Campaign {
            id: id.into(),
            sender_id: host,
            segment_ids: vec![format!("guests-{run}")],
            message_template: Some(MessageTemplate {
                text: "Hi {{ receiver.name }}".into(),
                ..Default::default()
            }),
            create_channels: true,
            channel_template: Some(ChannelTemplate {
                r#type: "messaging".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = CreateCampaignRequest {
            campaign: Some(campaign),
            ..Default::default()
        };
        self.campaigns.create_campaign(call(request)?).await?;
        Ok(())
    }

    /// Prints the campaign's progress; returns how it has ended. Outlasts a server that goes away.
    async fn watch(&mut self, id: &str) -> Outcome<Campaign> {
        let mut last = Campaign::default();
        let mut resume_token = String::new();
        loop {
            let request = WatchCampaignRequest {
                id: id.into(),
                resume_token: resume_token.clone(),
            };
            let ended = async {
                let mut answers = self
                    .campaigns
                    .watch_campaign(stream(request)?)
                    .await?
                    .into_inner();
                while let Some(answer) = answers.message().await? {
                    last = answer.campaign.unwrap_or_default();
                    resume_token = answer.resume_token;
                    let progress = last.stats.as_ref().map_or(0.0, |stats| stats.progress);
                    println!("{} {:.0}%", last.status().as_str_name(), progress * 100.0);
                }
                Outcome::Ok(())
            };
            match ended.await {
                Ok(()) => return Ok(last),
                Err(error) if is_unavailable(error.as_ref()) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads up to the wanted event of a campaign; returns the ids of all, and the last token.
    async fn read_events(
        &mut self,
        id: &str,
        wanted: &str,
        after: String,
    ) -> Outcome<(Vec<String>, String)> {
        let types = vec!["campaign.started".into(), wanted.into()];
        let request = stream(StreamEventsRequest { after, types })?;
        // the call ends when its answers are dropped
        let mut answers = self.events.stream_events(request).await?.into_inner();
        let mut ids = Vec::new();
        while let Some(answer) = answers.message().await? {
            ids.extend(answer.events.iter().map(|event| event.id.clone()));
            let is_wanted = |event: &herald_example::herald::event::v1::Event| {
                event.r#type == wanted && event.campaign_id == id
            };
            if answer.events.iter().any(is_wanted) {
                return Ok((ids, answer.token));
            }
        }
        Err("the stream ended without the event".into())
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let run = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_nanos()
        .to_string();
    let id = format!("hello-{run}");
    let mut herald = Herald::connect().await?;
    if let Err(error) = herald
        .campaigns
        .get_campaign(call(GetCampaignRequest {
            id: id.clone(),
            ..Default::default()
        })?)
        .await
    {
        // decide by the reason, never by the text
        if error_info(&error).0 != ErrorReason::CampaignNotFound.as_str_name() {
            return Err(error.into());
        }
        herald.create_campaign(&id, &run).await?;
    }
    let request = StartCampaignRequest {
        id: id.clone(),
        ..Default::default()
    };
    herald.campaigns.start_campaign(call(request)?).await?;
    let (started, token) = herald
        .read_events(&id, "campaign.started", String::new())
        .await?;
    let last = herald.watch(&id).await?;
    // a program that stores the token with its own changes handles each event once
    let (completed, _) = herald.read_events(&id, "campaign.completed", token).await?;
    assert!(
        !completed.iter().any(|event| started.contains(event)),
        "an event came twice"
    );
    let status = last.status().as_str_name();
    let sent = last.stats.unwrap_or_default().messages_sent;
    println!("{status}: {sent} of {GUESTS} sent");
    Ok(())
}
