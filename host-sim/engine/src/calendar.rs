//! Dates of the Gregorian calendar, in a few lines.

/// Days of 400 years, after which all repeats itself.
const ERA: i64 = 146_097;

/// Days from the first of March of year 0 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// Year, month and day, both from 1, of a number of days since 1970-01-01; earlier ones are negative.
///
/// Counts years from March, so that the leap day is a year's last and the lengths of months follow
/// one linear formula: H. Hinnant's `civil_from_days`.
#[must_use]
pub const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH;
    let (era, of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + (month <= 2) as i64, month, day)
}

/// The other way round.
#[must_use]
pub const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_are_known_dates() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (20_453, (2025, 12, 31)),
            (47_482, (2100, 1, 1)),
            (-719_162, (1, 1, 1)),
        ] {
            assert_eq!(civil(day), date);
        }
    }

    #[test]
    fn every_day_of_an_era_and_beyond_comes_back_and_follows_the_one_before() {
        let mut before = civil(-ERA);
        for day in 1 - ERA..ERA {
            let date = civil(day);
            assert!(date > before, "{date:?}");
            assert_eq!(days(date.0, date.1, date.2), day);
            before = date;
        }
    }
}
