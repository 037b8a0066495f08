//! Makes the calls of a file of steps, and prints the end of each as a line of JSON.
//!
//! Usage: steps STEPS.json RUN, with the environment of main_job.

use std::{collections::BTreeMap, env, error::Error, fs, time::Duration};

use herald_example::{CALL_TIME, campaign_channel, error_info, segment_channel, token, with_token};
use prost::bytes::{Buf, BufMut};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, prost::Message};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Status, client::Grpc, transport::Channel};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Messages of a type that is known only when the program runs.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item.encode_to_vec().as_slice());
        Ok(())
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        DynamicMessage::decode(self.0.clone(), bytes)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

struct Runner {
    pool: DescriptorPool,
    segment: Channel,
    campaign: Channel,
    values: BTreeMap<String, String>,
}

impl Runner {
    /// The text with the value of each ${name} in its place.
    fn filled_in(&self, text: &str) -> String {
        self.values
            .iter()
            .fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("${{{name}}}"), value)
            })
    }

    /// Makes the call of a step; adds its answers, up to the one that the step waits for.
    async fn take(&self, step: &Value, limit: Duration, answers: &mut Vec<Value>) -> Outcome<()> {
        let call = step["call"].as_str().ok_or("a step without a call")?;
        let (service, method) = call.split_once('/').ok_or("a call without a method")?;
        let service = self
            .pool
            .get_service_by_name(service)
            .ok_or("an unknown service")?;
        let method = service
            .methods()
            .find(|each| each.name() == method)
            .ok_or("an unknown method")?;
        let text = self.filled_in(&step["request"].to_string());
        let mut json = serde_json::Deserializer::from_str(&text);
        let message = DynamicMessage::deserialize(method.input(), &mut json)?;
        let token = match step.get("token").and_then(Value::as_str) {
            Some(own) => self.filled_in(own),
            None => token(),
        };
        let mut request = with_token(message, &token)?;
        // tonic ends a call with CANCELLED at its own timeout: the clock around this call is earlier
        request.set_timeout(limit + Duration::from_secs(1));
        let until = step
            .get("until")
            .and_then(Value::as_str)
            .map(|text| self.filled_in(text));

        let at_segment = ["herald.chat.", "herald.segment."]
            .iter()
            .any(|it| call.starts_with(it));
        let mut grpc = Grpc::new(
            if at_segment {
                &self.segment
            } else {
                &self.campaign
            }
            .clone(),
        );
        grpc.ready().await?;
        // one answer is a short stream
        let path = format!("/{call}").parse()?;
        let outcome = grpc
            .server_streaming(request, path, Dynamic(method.output()))
            .await?;
        let mut stream = outcome.into_inner();
        while let Some(message) = stream.message().await? {
            let answer = serde_json::to_value(message)?;
            let waited = until
                .as_ref()
                .is_some_and(|text| answer.to_string().contains(text));
            answers.push(answer);
            if waited {
                break;
            }
        }
        Ok(())
    }

    /// The end of a step; keeps the values that later steps need.
    async fn end(&mut self, step: &Value) -> Outcome<Value> {
        let mut answers = Vec::new();
        let mut code = 0;
        let mut info = Default::default();
        let limit = step["seconds"]
            .as_f64()
            .map_or(CALL_TIME, Duration::from_secs_f64);
        let outcome = timeout(limit, self.take(step, limit, &mut answers)).await;
        if let Err(error) = outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("").into())) {
            let status = error.downcast::<Status>()?;
            code = status.code() as i32;
            info = error_info(&status);
        }
        if let (Some(answer), Some(keep)) = (answers.last(), step["keep"].as_object()) {
            for (name, path) in keep {
                let pointer = format!("/{}", path.as_str().unwrap_or_default().replace('.', "/"));
                let value = answer
                    .pointer(&pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                self.values.insert(name.clone(), value.to_owned());
            }
        }
        Ok(json!({"code": code, "reason": info.0, "metadata": info.1, "answers": answers}))
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, file, run] = &arguments[..] else {
        return Err("usage: steps STEPS.json RUN".into());
    };
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/herald.binpb"));
    let mut runner = Runner {
        pool: DescriptorPool::decode(&descriptors[..])?,
        segment: segment_channel().await?,
        campaign: campaign_channel().await?,
        values: [("run".to_owned(), run.clone())].into(),
    };
    let steps: Vec<Value> = serde_json::from_str(&fs::read_to_string(file)?)?;
    for step in &steps {
        println!("{}", runner.end(step).await?);
    }
    Ok(())
}
