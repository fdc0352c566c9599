//! A round-robin load balancer for connections. Its list of replicas can change while it runs.

use std::sync::{Arc, Mutex};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub struct Balancer {
    pub address: String,
    replicas: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Forwards every connection to `replica`, an address with a port.
    pub async fn start(replica: &str) -> Self {
        Self::over(&[replica.to_owned()]).await
    }

    /// Forwards connections to each of these replicas in turn.
    pub async fn over(replicas: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let replicas = Arc::new(Mutex::new(replicas.to_owned()));
        let all = replicas.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let order = next_first(&mut all.lock().unwrap());
                tokio::spawn(async move {
                    if let Some(mut server) = connect(order).await {
                        // Returns when both directions have ended.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, replicas, task }
    }

    /// Forwards new connections to `replica`. Open connections stay where they are.
    pub fn switch_to(&self, replica: &str) {
        self.spread_over(&[replica.to_owned()]);
    }

    /// Forwards new connections to each of these in turn. Open connections stay where they are.
    pub fn spread_over(&self, replicas: &[String]) {
        *self.replicas.lock().unwrap() = replicas.to_owned();
    }
}

/// The replicas, beginning with the one whose turn it is.
fn next_first(replicas: &mut [String]) -> Vec<String> {
    let order = replicas.to_vec();
    replicas.rotate_left(1);
    order
}

/// A connection to the first replica that accepts one.
async fn connect(replicas: Vec<String>) -> Option<TcpStream> {
    for replica in replicas {
        if let Ok(stream) = TcpStream::connect(replica).await {
            return Some(stream);
        }
    }
    None
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
