//! `membershipd invite`: links with which somebody new makes himself a user, through the API.

use std::path::Path;

use anyhow::Context;
use clap::Subcommand;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::api::Api;
use super::roles::UserRole;
use super::table::{Table, word};
use super::{DONE, Problem};
use unibus_client::api::{Changed, Invite, InviteLink, NodeUrl, Request};
use unibus_client::words::local;
use unibus_core::domain::{Handle, Token};
use unibus_core::random;
use unibus_names::text::without_bom;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes a link for somebody new; whoever opens it first, within 7 days, is the user. Only for admins
    New {
        /// Handle that the user will have, for ever: a-z, 0-9, '_' and '-', at most 32
        handle: Handle,
        /// What the user may do beside using the bus
        #[arg(long, value_enum, default_value = "user")]
        role: UserRole,
        #[command(flatten)]
        api: Api,
    },
    /// Lists the invites: for whom, by whom, until when, and what became of them
    List(Api),
    /// Takes an invite back that nobody has used yet. Where somebody has begun to, the handle can never be had again
    Revoke {
        /// Which: its id as 'invite list' shows it, or as much of the beginning as names one alone
        id: String,
        #[command(flatten)]
        api: Api,
    },
}

/// Where the invites are.
const INVITES: &str = "/v1/invites";
/// Digits of an id that people are shown: enough to name one of a billion.
const SHOWN: usize = 16;

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    match &args.what {
        What::New { handle, role, api } => new(handle, *role, api)?,
        What::List(api) => {
            let none = "no invites; next: membershipd invite new HANDLE";
            api.print_list(INVITES, "invites", none, table)?;
        }
        What::Revoke { id, api } => {
            let answer = api.run(async |client| {
                let invites = client.list(INVITES, "invites").await?;
                let ids = invites.iter().filter_map(|invite| invite.get("id")?.as_str());
                let mut named = ids.filter(|known| !id.is_empty() && known.starts_with(id.as_str()));
                match (named.next(), named.next()) {
                    (Some(only), None) => client.ask(&Request::delete(format!("{INVITES}/{only}"))).await.map(Ok),
                    (None, _) => Ok(Err("there is no such invite")),
                    (Some(_), Some(_)) => Ok(Err("several invites begin like that; say more of the id")),
                }
            })?;
            let answer = answer.map_err(|why| anyhow::anyhow!("{why}; see 'membershipd invite list'"))?;
            api.print_change(answer, table)?;
        }
    }
    Ok(DONE)
}

fn new(handle: &Handle, role: UserRole, api: &Api) -> Result<(), Problem> {
    let entropy: [u8; 32] = random::bytes().map_err(anyhow::Error::from)?;
    let (token, urls) = (Token::from_entropy(entropy), api.urls().to_vec());
    let over_tls = urls.iter().any(NodeUrl::is_https);
    let ca = match api.ca() {
        Some(ca) if over_tls => certificates(ca)?,
        _ => Vec::new(),
    };
    let link = InviteLink { urls, handle: handle.clone(), token, ca };
    let text = link.reveal().map_err(anyhow::Error::from)?;
    let request =
        Request::put(format!("{INVITES}/{}", link.token.id()), Some(json!({ "handle": handle, "role": role.0 })));
    let answer = api.run(async |client| client.ask(&request).await)?;
    let made: Changed<Invite> = serde_json::from_value(answer.clone()).map_err(anyhow::Error::from)?;
    if api.json() {
        println!("{}", json!({ "link": text, "invite": answer.get("invite") }));
        return Ok(());
    }
    // The link alone is what another program may read.
    println!("{text}");
    let until = local(made.record.expires_at.saturating_mul(1000));
    eprintln!(
        "\nThis link is a secret: whoever uses it first is {handle}. It counts once, until {until}, and only while you are an admin.\n\
         Send it to {handle}, and to nobody else, who saves it in a FILE and says, where membershipd is:\n\n    \
         membershipd register - --out {handle}.toml < FILE\n\n\
         To take it back: membershipd invite revoke {}",
        made.record.id.to_string().get(..SHOWN).unwrap_or_default()
    );
    if !over_tls {
        eprintln!(
            "It names this machine alone, and is of no use on another one; say --url https://NODE:8470 and --ca FILE."
        );
    }
    Ok(())
}

/// The certificates in a file of PEM.
fn certificates(ca: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let cannot = || format!("cannot read the CA {}", ca.display());
    let text = std::fs::read(ca).with_context(cannot)?;
    let ders = CertificateDer::pem_slice_iter(without_bom(&text)).collect::<Result<Vec<_>, _>>();
    Ok(ders.with_context(cannot)?.into_iter().map(|der| der.to_vec()).collect())
}

fn table(invites: &[Invite]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["id", "handle", "role", "by", "state", "until"]);
    for invite in invites {
        let id = invite.id.to_string();
        table.row(vec![
            id.get(..SHOWN).unwrap_or_default().to_owned(),
            invite.handle.to_string(),
            word(invite.role)?,
            invite.by.to_string(),
            invite.state.clone(),
            local(invite.expires_at.saturating_mul(1000)),
        ]);
    }
    Ok(table)
}
