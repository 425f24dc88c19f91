//! The engine's configuration, rendered from ours. JSON is a subset of the engine's own syntax, so nothing needs quoting
//! by hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::config::{Cluster, Config, TlsFiles};
use unibus_core::bus::{self, ACCOUNT_BUS, ACCOUNT_CONTROL, ACCOUNT_SYSTEM};

/// Configuration file of the engine. It holds the route password: 0600.
pub fn render(config: &Config) -> Result<String> {
    let secrets = &config.secrets;
    let user = |pair: &nkeys::KeyPair| json!({ "users": [ { "nkey": pair.public_key() } ] });
    let with_jetstream = |mut account: Value| {
        if let Value::Object(map) = &mut account {
            map.insert("jetstream".to_owned(), json!("enabled"));
        }
        account
    };
    // What a member's connection may have. The limits in the JWT of an admission are ignored by the engine. The daemon's own
    // connections in the account count too, and have a few subscriptions each.
    let with_limits = |mut account: Value| {
        if let Value::Object(map) = &mut account {
            let subscriptions = config.engine_bounds.subscriptions_by_connection;
            map.insert(
                "limits".to_owned(),
                json!({ "max_subscriptions": subscriptions, "max_payload": bus::PAYLOAD_BYTES }),
            );
        }
        account
    };
    let callout_account = bus::account_callout(&config.node);
    // No monitor (`http`): it asks for no password, and tells every user of the machine who is connected. What it would say the daemon
    // asks for on the system account.
    let mut document = json!({
        "server_name": config.node,
        "host": config.bind.to_string(),
        "port": config.ports.client,
        // The engine wants at least 30 s; it ends as soon as the last client has gone, and `supervise` ends it sooner.
        "lame_duck_duration": "30s",
        "lame_duck_grace_period": "1s",
        "ping_interval": "20s",
        "ping_max": 2,
        "write_deadline": "5s",
        "max_subscription_tokens": bus::SUBSCRIPTION_TOKENS,
        "jetstream": {
            "store_dir": absolute(&config.nats_store)?,
            "max_file_store": bus::STORE_BYTES,
            // Without it a power failure of all nodes loses acknowledged writes (nats-server #7564).
            "sync_interval": "always",
        },
        "accounts": {
            &callout_account: user(&secrets.callout),
            ACCOUNT_BUS: with_limits(with_jetstream(user(&secrets.bus))),
            ACCOUNT_CONTROL: with_jetstream(user(&secrets.control)),
            ACCOUNT_SYSTEM: user(&secrets.system),
        },
        "system_account": ACCOUNT_SYSTEM,
        "authorization": {
            "timeout": bus::AUTHORIZATION_TIMEOUT.as_secs_f64(),
            "auth_callout": {
                "issuer": secrets.issuer.public_key(),
                "account": callout_account,
                "auth_users": [secrets.callout.public_key(), secrets.bus.public_key()],
                "allowed_accounts": [ACCOUNT_BUS],
                "xkey": secrets.xkey.public_key(),
            },
        },
    });
    if let Value::Object(map) = &mut document {
        // Otherwise an engine on all addresses asks the kernel for them, which the unit forbids, and logs that as an error.
        if !config.advertise.is_unspecified() {
            let address = SocketAddr::new(config.advertise, config.ports.client);
            map.insert("client_advertise".to_owned(), json!(address.to_string()));
        }
        if let Some(tls) = &config.tls {
            map.insert("tls".to_owned(), tls_block(tls, false)?);
        }
        if let Some(cluster) = &config.cluster {
            map.insert("cluster".to_owned(), cluster_block(config, cluster)?);
        }
    }
    Ok(serde_json::to_string_pretty(&document)?)
}

fn cluster_block(config: &Config, cluster: &Cluster) -> Result<Value> {
    // An explicit route takes its password from the URL alone, which is why this file is private.
    let pass = cluster.pass.expose_secret();
    let routes: Vec<_> =
        cluster.routes.iter().map(|peer| format!("nats-route://{}:{pass}@{peer}", bus::ROUTE_USER)).collect();
    Ok(json!({
        "name": cluster.name,
        "host": cluster.bind.to_string(),
        "port": config.ports.route,
        // Pooled routes were churned as duplicates on a cold start.
        "pool_size": -1,
        // Clients are told where the other nodes are, so that one that knows a single node survives its loss. What is told is the
        // address that was configured: without one an engine would name every address that its machine has, container bridges too.
        "no_advertise": config.advertise.is_unspecified(),
        "authorization": { "user": bus::ROUTE_USER, "password": pass, "timeout": 5 },
        "routes": routes,
        "tls": tls_block(&cluster.tls, true)?,
    }))
}

fn tls_block(tls: &TlsFiles, mutual: bool) -> Result<Value> {
    let mut block = json!({
        "cert_file": absolute(&tls.cert)?,
        "key_file": absolute(&tls.key)?,
        "timeout": 5,
    });
    if let (true, Value::Object(map)) = (mutual, &mut block) {
        map.insert("ca_file".to_owned(), json!(absolute(&tls.ca)?));
        map.insert("verify".to_owned(), json!(true));
    }
    Ok(block)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot make {} absolute", path.display()))
}
