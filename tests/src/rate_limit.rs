//! Rate limit services: `envoy.service.ratelimit.v3` over gRPC on loopback.
//!
//! What decides is either a window of our own, which is exact and says all there is to say, or
//! Limitador's engine, which is what many run. The messages are read and written here by hand, and
//! by other code than the module's.

use anyhow::{Context, Result, bail};
use host_sim_rig::grpc::{GrpcServer, Unary};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Seconds of every window here: none ends within a test.
const HOUR: u32 = 3_600;

/// A question that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The domain.
    pub domain: String,
    /// Entries of each descriptor.
    pub descriptors: Vec<Vec<(String, String)>>,
    /// `hits_addend`.
    pub hits: u32,
}

/// What a service does instead of deciding.
#[derive(Clone, Debug, Default)]
pub enum Services {
    /// It decides.
    #[default]
    Decide,
    /// It answers this status.
    Fail(u32),
    /// Its message is none.
    Garbage,
    /// It never answers.
    Silent,
}

/// A service that runs until it is dropped.
pub struct RateLimitService {
    server: GrpcServer,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    asked: Mutex<Vec<Asked>>,
    behaviour: Mutex<Services>,
    counted: Mutex<BTreeMap<String, u32>>,
}

impl RateLimitService {
    /// Grants `limit` hits an hour to each set of descriptors.
    pub async fn window(limit: u32) -> Result<Self> {
        Self::start(move |state, asked| {
            let answer = window(&state, &asked, limit);
            async move { Unary::Message(answer) }
        })
        .await
    }

    /// Lets Limitador's engine decide.
    pub async fn limitador(engine: Limitador) -> Result<Self> {
        let engine = Arc::new(tokio::sync::Mutex::new(engine));
        Self::start(move |_, asked| {
            let engine = engine.clone();
            async move {
                match engine.lock().await.ask(&asked).await {
                    Ok(answer) => Unary::Message(answer),
                    Err(error) => Unary::Status(13, format!("{error:#}")),
                }
            }
        })
        .await
    }

    async fn start<F>(
        decide: impl Fn(Arc<State>, Asked) -> F + Clone + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Unary> + Send + 'static,
    {
        let state = Arc::new(State::default());
        let shared = state.clone();
        let server = GrpcServer::unary(move |path, message| {
            let (state, decide) = (shared.clone(), decide.clone());
            async move {
                if path != "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit" {
                    return Unary::Status(12, path);
                }
                let Some(asked) = request(&message) else {
                    return Unary::Status(3, "no RateLimitRequest".to_owned());
                };
                lock(&state.asked).push(asked.clone());
                let behaviour = lock(&state.behaviour).clone();
                match behaviour {
                    Services::Decide => decide(state, asked).await,
                    Services::Fail(status) => Unary::Status(status, "broken".to_owned()),
                    Services::Garbage => Unary::Message(b"no answer at all".to_vec()),
                    Services::Silent => Unary::Silence,
                }
            }
        })
        .await?;
        Ok(Self { server, state })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// From now on it does this.
    pub fn behave(&self, behaviour: Services) {
        *lock(&self.state.behaviour) = behaviour;
    }

    /// All questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state.asked).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn window(state: &State, asked: &Asked, limit: u32) -> Vec<u8> {
    let mut counted = lock(&state.counted);
    let count = counted.entry(format!("{:?}", asked.descriptors)).or_default();
    let granted = *count + asked.hits <= limit;
    if granted {
        *count += asked.hits;
    }
    let code = if granted { 1 } else { 2 };
    let status = [
        number(1, code),
        bytes(2, &[number(1, limit), number(2, 3)].concat()),
        number(3, limit - *count),
        bytes(4, &number(1, HOUR)),
    ];
    let mut answer = number(1, code);
    answer.extend(bytes(2, &status.concat()));
    answer.extend(header(3, "x-decided-by", "window"));
    answer.extend(header(4, "x-asked", "window"));
    answer
}

/// Limitador's engine, in a process of its own.
pub struct Limitador {
    // Killed when it is dropped.
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Limitador {
    /// Starts it with a limit an hour for each value of `variable`, such as
    /// `descriptors[0].client`. `None` where it is not built, which prints a line; with `CI=true`
    /// that is an error.
    pub async fn start(domain: &str, limit: u32, variable: &str) -> Result<Option<Self>> {
        let path = std::env::var_os("WEIR_LIMITADOR").map_or_else(
            || {
                let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/limitador");
                PathBuf::from(root).join("debug/weir-limitador")
            },
            PathBuf::from,
        );
        if !path.exists() {
            if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                bail!("CI=true and {} is not built: run 'make test'", path.display());
            }
            println!("SKIP Limitador's engine: 'make limitador' builds it");
            return Ok(None);
        }
        let mut process = Command::new(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run Limitador's engine")?;
        let mut questions = process.stdin.take().context("no input")?;
        let answers = BufReader::new(process.stdout.take().context("no output")?).lines();
        let limits = json!([
            {"domain": domain, "max": limit, "seconds": HOUR, "variables": [variable]},
        ]);
        questions.write_all(format!("{limits}\n").as_bytes()).await?;
        Ok(Some(Self { _process: process, questions, answers }))
    }

    async fn ask(&mut self, asked: &Asked) -> Result<Vec<u8>> {
        let descriptors: Vec<BTreeMap<_, _>> =
            asked.descriptors.iter().map(|entries| entries.iter().cloned().collect()).collect();
        let question =
            json!({"domain": asked.domain, "hits": asked.hits.max(1), "descriptors": descriptors});
        self.questions.write_all(format!("{question}\n").as_bytes()).await?;
        let line = self.answers.next_line().await?.context("Limitador's engine is gone")?;
        let said: Value = serde_json::from_str(&line)?;
        let mut answer = number(1, if said["limited"] == json!(true) { 2 } else { 1 });
        for (name, value) in said["headers"].as_object().into_iter().flatten() {
            answer.extend(header(3, name, value.as_str().unwrap_or_default()));
        }
        Ok(answer)
    }
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut written = Vec::new();
    while value > 0x7f {
        written.push(value as u8 | 0x80);
        value >>= 7;
    }
    written.push(value as u8);
    written
}

fn number(field: u8, value: u32) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(value.len() as u32), value.to_vec()].concat()
}

fn header(field: u8, name: &str, value: &str) -> Vec<u8> {
    bytes(field, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
}

/// A number, or bytes.
type Field<'a> = (u8, u32, &'a [u8]);

/// The fields of a message; `None` if it is none.
fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut all = Vec::new();
    while let Some((tag, rest)) = message.split_first() {
        message = rest;
        let value = take_varint(&mut message)?;
        match tag & 7 {
            0 => all.push((tag >> 3, value, &[][..])),
            2 => {
                let (field, rest) = message.split_at_checked(value as usize)?;
                message = rest;
                all.push((tag >> 3, 0, field));
            }
            _ => return None,
        }
    }
    Some(all)
}

fn take_varint(message: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A `RateLimitRequest`.
fn request(message: &[u8]) -> Option<Asked> {
    let mut asked = Asked { domain: String::new(), descriptors: Vec::new(), hits: 0 };
    for (field, value, bytes) in fields(message)? {
        match field {
            1 => asked.domain = String::from_utf8(bytes.to_vec()).ok()?,
            2 => asked.descriptors.push(descriptor(bytes)?),
            3 => asked.hits = value,
            _ => return None,
        }
    }
    Some(asked)
}

fn descriptor(message: &[u8]) -> Option<Vec<(String, String)>> {
    let entry = |(_, _, entry)| {
        let texts: Vec<_> = fields(entry)?
            .into_iter()
            .map(|(_, _, text): Field<'_>| String::from_utf8_lossy(text).into_owned())
            .collect();
        let [key, value] = <[String; 2]>::try_from(texts).ok()?;
        Some((key, value))
    };
    fields(message)?.into_iter().map(entry).collect()
}
