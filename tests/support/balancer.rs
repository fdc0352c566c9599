//! A load balancer as far as clients notice one: each connection goes to the replica that it names now.

use std::sync::{Arc, Mutex};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub struct Balancer {
    pub address: String,
    replica: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Sends connections to `replica`, an address with a port.
    pub async fn start(replica: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let replica = Arc::new(Mutex::new(replica.to_owned()));
        let to = replica.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = to.lock().unwrap().clone();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        // Ends with either side.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, replica, task }
    }

    /// Sends connections elsewhere from now on; those that stand stay.
    pub fn switch_to(&self, replica: &str) {
        *self.replica.lock().unwrap() = replica.to_owned();
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
