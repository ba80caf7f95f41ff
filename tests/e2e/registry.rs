//! metric-router: the endpoints that a registry lists.

use host_sim_rig::endpoint::EndpointOptions;
use host_sim_rig::fleet::Fleet;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use weir_tests::{Suite, eventually, on_both_hosts};

/// Answers every request with the same document, as Consul's health API would.
struct Registry {
    address: SocketAddr,
    document: Arc<Mutex<(u16, String)>>,
    task: JoinHandle<()>,
}

impl Registry {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let document = Arc::new(Mutex::new((200, "[]".to_owned())));
        let shared = Arc::clone(&document);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, document, task })
    }

    fn says(&self, status: u16, body: String) {
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = (status, body);
    }

    fn lists(&self, addresses: &[SocketAddr]) {
        let entry = |at: &SocketAddr| {
            json!({
                "Node": {"Node": "n", "Address": "10.9.9.9", "Meta": {}},
                "Service": {
                    "ID": "app", "Service": "app", "Tags": [], "Meta": {},
                    "Address": at.ip().to_string(), "Port": at.port(),
                    "Weights": {"Passing": 1, "Warning": 1},
                },
                "Checks": [{"CheckID": "serfHealth", "Status": "passing"}],
            })
        };
        let entries: Vec<_> = addresses.iter().map(entry).collect();
        self.says(200, json!(entries).to_string());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, document: Arc<Mutex<(u16, String)>>) {
    let mut read = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(size) = stream.read(&mut piece).await {
        if size == 0 {
            return;
        }
        read.extend_from_slice(&piece[..size]);
        if !read.windows(4).any(|end| end == b"\r\n\r\n") {
            continue;
        }
        read.clear();
        let (status, body) = document.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

on_both_hosts! {
    async fn the_endpoints_of_a_registry_are_followed_and_its_last_good_list_stays(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        let addresses = fleet.addresses();
        let registry = Registry::start().await?;
        registry.lists(&addresses[..2]);
        let proxy = Suite::new(&addresses)
            .cluster_of("consul", &[registry.address])
            .filter(
                "metric-router",
                json!({"clusters": [{
                    "name": "backend",
                    "endpoints_from": {
                        "cluster": "consul",
                        "path": "/v1/health/service/app?passing",
                        "interval": "0.5s",
                    },
                }]}),
            )
            .start(&host)
            .await?;
        let served =
            || fleet.endpoints().iter().map(|e| e.counters().served).collect::<Vec<_>>();
        // Round robin over three until the registry was heard by both workers.
        let only = async |wanted: [bool; 3]| {
            eventually("only the endpoints that are listed are asked", async || {
                let before = served();
                for _ in 0..40 {
                    assert_eq!(proxy.get("/").await?.status, 200);
                }
                let grown = served().iter().zip(before).map(|(now, then)| *now > then).collect::<Vec<_>>();
                Ok(grown == wanted)
            })
            .await
        };
        only([true, true, false]).await?;
        registry.says(500, String::new());
        eventually("an answer is not used", async || {
            let unusable = [("outcome", "unusable")];
            let answers = proxy.metric_with("weir_registry_answers_total", &unusable).await?;
            Ok(answers.unwrap_or(0.0) >= 2.0)
        })
        .await?;
        only([true, true, false]).await?;
        registry.lists(&addresses[1..]);
        only([false, true, true]).await?;
    }
}
