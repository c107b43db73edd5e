# METADATA
# title: Orders, whose records may wait
# custom:
#   title_zh: 订单，可延迟留痕
#   scope: {actions: ["order.*"]}
#   audit: buffered
package xiezhi.platform.orders

# METADATA
# title: Orders may be placed
# custom:
#   id: may_be_placed
#   title_zh: 可下单
#   message: {en: "Orders may be placed.", zh: "可下单。"}
#   severity: low
#   requirement: [X15]
allow contains {"rule": "may_be_placed"} if input.action.name == "order.place"

# METADATA
# title: Large orders need a review
# custom:
#   id: large
#   title_zh: 大额订单需审批
#   message: {en: "More than 1000 needs a review.", zh: "超过 1000 需审批。"}
#   severity: high
#   requirement: [X15]
review contains {"rule": "large"} if input.resource.properties.amount > 1000

# METADATA
# title: Orders are not negative
# custom:
#   id: negative
#   title_zh: 不得为负
#   message: {en: "An amount is not negative.", zh: "金额不得为负。"}
#   severity: high
#   requirement: [X15]
deny contains {"rule": "negative"} if input.resource.properties.amount < 0
