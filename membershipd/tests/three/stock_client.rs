use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<(), async_nats::Error> {
    let [nodes, ca, seed, handle] = ["NODES", "CA", "SEED", "HANDLE"].map(|name| std::env::var(name).expect(name));
    let options = async_nats::ConnectOptions::with_nkey(seed).add_root_certificates(ca.into());
    let options = options.custom_inbox_prefix(format!("_INBOX.{handle}.sums"));
    let bus = options.connect(nodes.split(',').collect::<Vec<_>>()).await?;
    let mut requests = bus.subscribe("rpc.sums").await?;
    let asking = bus.clone();
    tokio::spawn(async move { println!("{:?}", asking.request("rpc.sums", "who?".into()).await) });
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            bus.publish(reply, "rust".into()).await?;
        }
    }
    Ok(())
}
