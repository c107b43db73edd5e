# METADATA
# title: Payments, which must be on record
# custom:
#   title_zh: 支付，必须留痕
#   scope: {actions: ["payment.*"]}
#   audit: strict
package xiezhi.platform.payments

# METADATA
# title: Payments may be made
# custom:
#   id: may_be_made
#   title_zh: 可支付
#   message: {en: "Payments may be made.", zh: "可支付。"}
#   severity: low
#   requirement: [X15]
allow contains {"rule": "may_be_made"} if input.action.name == "payment.make"

# METADATA
# title: Large payments need a review
# custom:
#   id: large
#   title_zh: 大额支付需审批
#   message: {en: "More than 1000 needs a review.", zh: "超过 1000 需审批。"}
#   severity: high
#   requirement: [X15]
review contains {"rule": "large"} if input.resource.properties.amount > 1000

# METADATA
# title: Payments are not negative
# custom:
#   id: negative
#   title_zh: 不得为负
#   message: {en: "An amount is not negative.", zh: "金额不得为负。"}
#   severity: high
#   requirement: [X15]
deny contains {"rule": "negative"} if input.resource.properties.amount < 0
