#!/usr/bin/env python3
"""A mail tool on Python's smtplib. Reads its orders as JSON from stdin, sends one message, prints as JSON what the
server said: refused {address: [code, text]}, reply [code, text] of the final dot, error. The bytes handed to DATA are
written to the file `save`."""
import email.policy, json, smtplib, ssl, sys
from email.message import EmailMessage

order = json.load(sys.stdin)
said = {'refused': {}, 'reply': None, 'error': ''}


class Recording:
    def data(self, msg):
        if isinstance(msg, str):
            msg = smtplib._fix_eols(msg).encode('ascii')
        with open(order['save'], 'wb') as f:
            f.write(msg)
        code, text = super().data(msg)
        said['reply'] = [code, text.decode()]
        return code, text


class Plain(Recording, smtplib.SMTP):
    pass


class Secure(Recording, smtplib.SMTP_SSL):
    pass


def connect():
    context = ssl.create_default_context(cafile=order['ca']) if order['tls'] else None
    if order['tls'] == 'tls':
        return Secure(order['host'], order['port'], timeout=60, context=context)
    s = Plain(order['host'], order['port'], timeout=60)
    if order['tls'] == 'starttls':
        s.starttls(context=context)
    return s


def login(s):
    if not order['user']:
        return
    s.ehlo_or_helo_if_needed()
    s.user, s.password = order['user'], order['password']
    authenticate = {'PLAIN': s.auth_plain, 'LOGIN': s.auth_login}[order['mechanism']]
    code, text = s.auth(order['mechanism'], authenticate)
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, text)


def compose():
    m = EmailMessage(policy=email.policy.SMTPUTF8 if order['utf8'] else email.policy.SMTP)
    m['From'], m['To'], m['Subject'] = order['header_from'], order['to'][0], order['subject']
    m['Message-ID'] = order['message_id']
    m.set_content(order['text'])
    m.add_alternative(order['html'], subtype='html')
    if order['attachment']:
        with open(order['attachment'], 'rb') as f:
            m.add_attachment(f.read(), maintype='application', subtype='pdf', filename='Prospekt für Sie.pdf')
    return m


def send(s):
    if order['compose']:
        return s.send_message(compose(), order['from'], order['to'])
    with open(order['file'], 'rb') as f:
        raw = f.read()
    options = ['BODY=8BITMIME'] if s.has_extn('8bitmime') else []
    if order['utf8']:
        options.append('SMTPUTF8')
    return s.sendmail(order['from'], order['to'], raw, options)


try:
    with connect() as server:
        login(server)
        server.ehlo_or_helo_if_needed()
        refused = send(server)
except smtplib.SMTPRecipientsRefused as e:
    refused, said['error'] = e.recipients, 'all recipients refused'
except smtplib.SMTPResponseException as e:
    refused, said['error'] = {}, '%d %s' % (e.smtp_code, e.smtp_error.decode())
said['refused'] = {a: [code, text.decode()] for a, (code, text) in refused.items()}
json.dump(said, sys.stdout)
