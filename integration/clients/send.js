// A mail tool on nodemailer. Reads its orders as JSON from stdin, sends one message, prints as JSON what the server
// said: refused {address: [code, text]}, reply [code, text] of the final dot, error. The bytes of the message are
// written to the file `save`.
'use strict';
const fs = require('fs');
const nodemailer = require('nodemailer');
const MailComposer = require('nodemailer/lib/mail-composer');

const order = JSON.parse(fs.readFileSync(0, 'utf8'));
const said = { refused: {}, reply: null, error: '' };

const transport = nodemailer.createTransport({
  host: order.host,
  port: order.port,
  secure: order.tls === 'tls',
  requireTLS: order.tls === 'starttls',
  ignoreTLS: order.tls === '',
  tls: order.ca ? { ca: [fs.readFileSync(order.ca)] } : undefined,
  auth: order.user ? { user: order.user, pass: order.password } : undefined,
  authMethod: order.mechanism || undefined,
  connectionTimeout: 30000,
  socketTimeout: 60000,
});

function compose() {
  const mail = {
    from: order.header_from,
    to: order.to[0],
    subject: order.subject,
    messageId: order.message_id,
    text: order.text,
    html: order.html,
    textEncoding: 'base64',
    attachments: order.attachment ? [{ filename: 'Prospekt für Sie.pdf', path: order.attachment, contentType: 'application/pdf' }] : [],
  };
  return new MailComposer(mail).compile().build();
}

const reply = (text) => [Number(text.slice(0, 3)), text.slice(4)];

async function main() {
  const raw = order.compose ? await compose() : fs.readFileSync(order.file);
  fs.writeFileSync(order.save, raw);
  let rejected = [];
  try {
    const info = await transport.sendMail({ envelope: { from: order.from, to: order.to, use8BitMime: true }, raw });
    said.reply = reply(info.response);
    rejected = info.rejectedErrors || [];
  } catch (e) {
    rejected = e.rejectedErrors || [];
    said.error = e.response || String(e);
  }
  for (const r of rejected) said.refused[r.recipient] = reply(r.response);
  process.stdout.write(JSON.stringify(said));
}

main();
