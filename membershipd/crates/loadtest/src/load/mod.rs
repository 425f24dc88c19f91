//! `load`: uses the bus as ordinary clients do, steadily, and writes down what was asked and what came of it.
//!
//! It knows nothing of faults and judges nothing: its history is for others to read. Every operation that begins is written
//! down, also where nobody ever learns its outcome, so that a gap in the history is a broken history and not a good one.

mod api_user;
mod awaited;
mod bench;
mod bus_user;
mod connects;
mod contested;
mod conversation;
mod dice;
mod guests;
mod history;
mod kinds;
mod messages;
mod orders;
mod registers;
mod relay;
mod room;
mod victims;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::{BoxFuture, join_all, try_join_all};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use api_user::ApiUser;
use bench::Bench;
use history::History;
use unibus_api_types::control::Register;
use unibus_api_types::control::Request;

pub use history::Shown;
pub use orders::Orders;

/// Longest orders, bytes.
const ORDERS_BYTES: u64 = 1 << 20;
/// Time for a node to say that it knows registers, and for the first user to be made; a cluster may be electing.
const BEGINNING: Duration = Duration::from_secs(30);
/// Users who have rooms: so many contend for one record.
const HOSTS: usize = 3;
/// Guests at a time, each of another host: so often somebody is removed.
const GUESTS: usize = 3;

/// Members of the room in which messages are kept.
const TALKERS: usize = 3;

/// One way to use the bus, going on until it is told to stop.
trait Workload: Send + Sync {
    /// Works until `stop`, and ends once nothing of its own is under way.
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()>;

    /// Looks at what it has done so far, while everybody goes on.
    fn look(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Looks once more at what it has done, when everybody has stopped.
    fn look_back(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What is said on standard input after the orders, to have everybody look at what was done so far.
const LOOK: &str = "look";
/// Requests to look that wait for their turn; whoever sends them waits for the answer to each.
const LOOKS: usize = 8;

/// Reads the orders from the first line of standard input, and works until its end, a signal, or the time is over. A line `look`
/// on the way is answered by the event `looked`, once everybody has looked.
pub fn run(shown: Shown) -> Result<()> {
    let mut first = String::new();
    let mut input = std::io::stdin().lock();
    std::io::Read::take(&mut input, ORDERS_BYTES).read_line(&mut first).context("cannot read the orders")?;
    drop(input);
    let orders = Orders::parse(&first)?;
    let stop = CancellationToken::new();
    let on_end = stop.clone();
    let (ask, asked) = mpsc::channel(LOOKS);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // Whoever ordered this is there until it hangs up.
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            // One more than can wait is not answered, which whoever asked notices.
            if line.trim() == LOOK && ask.try_send(()).is_err() {
                tracing::debug!("too many requests to look");
            }
        }
        on_end.cancel();
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let history = Arc::new(History::new(Box::new(std::io::stdout()), shown));
    let done = runtime.block_on(work(orders, history.clone(), stop, asked));
    if let Err(error) = &done {
        history.event("failed", Some(&format!("{error:#}")));
    }
    history.end();
    // A relay that waits for a node that will never answer must not hold the process up.
    runtime.shutdown_background();
    std::io::stdout().flush().context("cannot write the history")?;
    done
}

async fn work(
    orders: Orders,
    history: Arc<History>,
    stop: CancellationToken,
    mut asked: mpsc::Receiver<()>,
) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (lifetime, gone, on_signal) = (Duration::from_secs(orders.seconds), history.gone(), stop.clone());
    let bench = Arc::new(Bench::new(orders, history.clone())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = tokio::time::sleep(lifetime) => {}
            () = gone.cancelled() => {}
        }
        on_signal.cancel();
    });

    let worked = tokio::select! {
        begun = begin(&bench) => begun,
        () = stop.cancelled() => Err(anyhow::anyhow!("told to end before it had begun")),
    };
    if let Ok(workloads) = &worked {
        history.event("ready", None);
        // A task each, so that none waits for the turn of another.
        let all = join_all(workloads.iter().map(|workload| tokio::spawn(workload.clone().work(stop.clone()))));
        let looks = async {
            while let Some(Some(())) = stop.run_until_cancelled(asked.recv()).await {
                join_all(workloads.iter().map(|workload| workload.clone().look())).await;
                history.event("looked", None);
            }
        };
        tokio::join!(all, looks);
        history.event("reading-back", None);
        join_all(workloads.iter().map(|workload| workload.clone().look_back())).await;
    }
    history.event("cleaning-up", None);
    // The rooms first: it takes their owners to remove them.
    let mut left = bench.remove_rooms().await;
    left.extend(bench.remove_users().await);
    if !left.is_empty() {
        history.event("left-behind", Some(&left.join(", ")));
    }
    worked.map(drop)
}

/// Proves that every node that answers understands us, and makes the user that all of this is done as.
async fn begin(bench: &Arc<Bench>) -> Result<Vec<Arc<dyn Workload>>> {
    let Some(first) = Register::all().next() else { bail!("there are no registers") };
    let question = Request::ProbeRead { key: first };
    let asked = bench.relays.iter().map(|relay| relay.ask(&question, BEGINNING));
    for (relay, answer) in bench.relays.iter().zip(join_all(asked).await) {
        // A view that meets an entry of a kind it does not know is no proof of anything, so none is written.
        let foreign = answer.is_err_and(|failure| failure.code == "bad_request");
        ensure!(!foreign, "the membershipd of {} knows no registers: upgrade it first", relay.node);
    }
    let client = bench.new_user("client", BEGINNING).await.context("cannot make the user that works")?;
    let rates = &bench.orders.rates;
    let mut workloads: Vec<Arc<dyn Workload>> = Vec::new();
    if rates.writes > 0 {
        workloads.push(Arc::new(registers::Registers::new(bench.clone())));
    }
    if rates.connects > 0 {
        workloads.push(Arc::new(connects::Connects::new(bench.clone(), client.clone())));
    }
    if rates.messages > 0 {
        workloads.push(Arc::new(messages::Messages::new(bench.clone(), client)));
    }
    if rates.victims > 0 {
        workloads.push(Arc::new(victims::Victims::new(bench.clone())));
    }
    if rates.contests > 0 || rates.guests > 0 {
        workloads.extend(begin_rooms(bench).await?);
    }
    if rates.says > 0 {
        let talkers = several(bench, "talker", TALKERS).await.context("cannot make the users that talk")?;
        let begun = conversation::Conversation::begin(bench.clone(), talkers, BEGINNING);
        workloads.push(Arc::new(begun.await.context("cannot begin the conversation")?));
    }
    Ok(workloads)
}

/// Users of the signed API, `count` of them.
async fn several(bench: &Bench, role: &str, count: usize) -> Result<Vec<ApiUser>> {
    try_join_all((1..=count).map(async |number| bench.new_api_user(&format!("{role}-{number}"), BEGINNING).await)).await
}

/// What is done in rooms, over the signed API.
async fn begin_rooms(bench: &Arc<Bench>) -> Result<Vec<Arc<dyn Workload>>> {
    let (hosts, guests, invited) = futures::try_join!(
        several(bench, "host", HOSTS),
        several(bench, "guest", GUESTS),
        bench.new_user("invited", BEGINNING)
    )
    .context("cannot make the users that use the API")?;
    let mut workloads: Vec<Arc<dyn Workload>> = Vec::new();
    let rates = &bench.orders.rates;
    if rates.guests > 0 {
        for (lane, (host, guest)) in (0..).zip(hosts.iter().zip(guests)) {
            workloads.push(Arc::new(guests::Guests::new(bench.clone(), host.clone(), guest, lane)));
        }
    }
    if rates.contests > 0 {
        let begun = contested::Contested::begin(bench.clone(), hosts, invited.handle().clone(), BEGINNING);
        workloads.push(Arc::new(begun.await.context("cannot make the record that several contend for")?));
    }
    Ok(workloads)
}
